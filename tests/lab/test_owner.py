# SPDX-License-Identifier: GPL-3.0-or-later
"""Three firewalls: what ended on the one that took over stays ended, whoever is next; nothing else is lost."""

import signal

import pytest

from cluster import Cluster
from lab import wait_for
from tools import ctgen, kernel_table, stats, takeover, wait_proof

FLOWS = 3000
ENDED = 1000


@pytest.fixture
def cluster(bin_dir):
    with Cluster(bin_dir, 3) as topology:
        for member in topology.members:
            member.start_ctsyncd()
        yield topology


def settled(*members):
    for member in members:
        wait_proof(member, of=[m.name for m in members if m is not member])


def ended_elsewhere(holder, origin):
    return stats(holder)["peers"][origin.name]["ended_elsewhere_total"]


def lost(holder, origin):
    return next(p["state"] for p in holder.status()["peers"] if p["node"] == origin.name) == "lost"


def dies(member):
    """The daemon is killed, and what its kernel has is of no use to anybody any more."""
    member.stop_ctsyncd(signal.SIGKILL)


def test_second_takeover(cluster):
    """n1 dies, flows end on n2, which dies; n3 has what lived on n2, and nothing else."""
    n1, n2, n3 = cluster.members
    takeover(n1)
    ctgen(n1, "create", "-n", FLOWS)
    settled(n1, n2, n3)
    dies(n1)
    assert takeover(n2)["failed"] == 0
    ctgen(n2, "delete", "-n", ENDED)
    ctgen(n2, "create", "-o", 10000, "-n", 100)
    settled(n2, n3)
    wait_for(lambda: ended_elsewhere(n3, n1) == ENDED, 20, "n3 to know what has ended")
    lived = kernel_table(n2)
    assert len(lived) == FLOWS - ENDED + 100
    dies(n2)
    assert takeover(n3)["failed"] == 0
    assert kernel_table(n3).keys() == lived.keys()
    wait_for(lambda: not n3.status()["two_active"], 10, "n3 to notice that n2 is dead")
    assert (n3.status()["role"], n3.status()["term"]) == ("active", 3)


def test_return_of_the_first(cluster):
    """n1 was cut off while n2 took over: back, it gives up what has ended, and only that; then failback."""
    n1, n2, n3 = cluster.members
    takeover(n1)
    ctgen(n1, "create", "-n", FLOWS)
    settled(n1, n2, n3)
    n1.ip("link set sync0 down")
    wait_for(lambda: lost(n2, n1) and lost(n3, n1), 20, "n1 to be missed")
    takeover(n2)
    ctgen(n2, "delete", "-n", ENDED)
    ctgen(n1, "create", "-o", 20000, "-n", 50)
    settled(n2, n3)
    n1.ctsync("release")
    n1.ip("link set sync0 up")
    settled(n1, n2, n3)
    wait_for(lambda: len(kernel_table(n1)) == FLOWS - ENDED + 50, 20, "n1 to give up what has ended")
    ctgen(n2, "delete", "-o", ENDED, "-n", 100)
    wait_for(lambda: len(kernel_table(n1)) == FLOWS - ENDED - 100 + 50, 20, "n1 to follow")
    n2.ctsync("release")
    takeover(n1)
    settled(n1, n2, n3)
    assert len(kernel_table(n1)) == FLOWS - ENDED - 100 + 50
    assert kernel_table(n2).keys() <= kernel_table(n1).keys()


def test_two_active(cluster):
    """Two are active: said by all three, and nobody removes anything until one is released."""
    n1, n2, n3 = cluster.members
    takeover(n1)
    ctgen(n1, "create", "-n", FLOWS)
    settled(n1, n2, n3)
    takeover(n2)
    ctgen(n2, "delete", "-n", ENDED)
    settled(n1, n2, n3)
    for member in cluster.members:
        wait_for(lambda m=member: m.status()["two_active"], 10, f"{member.name} to say so")
        assert "TWO NODES AT ONCE" in member.ctsync("status").stdout
    assert len(kernel_table(n1)) == FLOWS and ended_elsewhere(n3, n1) == 0
    n1.ctsync("release")
    for member in cluster.members:
        wait_for(lambda m=member: not m.status()["two_active"], 10, f"{member.name} to see one")
    wait_for(lambda: len(kernel_table(n1)) == FLOWS - ENDED, 20, "n1 to give up what has ended")
    settled(n1, n2, n3)
    dies(n1)
    dies(n2)
    assert takeover(n3)["failed"] == 0
    assert len(kernel_table(n3)) == FLOWS - ENDED
