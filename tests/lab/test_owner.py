# SPDX-License-Identifier: GPL-3.0-or-later
"""Three firewalls, and the rules of doc/wire.md, section 8: whoever is next has everything that lives; what
has ended on the node that is in charge does not come back there, and leaves the others."""

import signal

import pytest

from cluster import Cluster
from lab import wait_for
from tools import configure, ctgen, kernel_table, stats, takeover, wait_proof

FLOWS = 3000
ENDED = 1000
PURGE_S = 2


@pytest.fixture
def cluster(bin_dir):
    with Cluster(bin_dir, 3) as topology:
        for member in topology.members:
            configure(member, takeover_keys=f"purge_s = {PURGE_S};")
            member.start_ctsyncd()
        yield topology


def settled(*members):
    for member in members:
        wait_proof(member, of=[m.name for m in members if m is not member])


def flows_of(member):
    return kernel_table(member).keys()


def ended_here(holder, origin):
    return stats(holder)["peers"][origin.name]["ended_here_total"]


def cut(member):
    member.ip("link set sync0 down")


def join(member):
    member.ip("link set sync0 up")


def lost(holder, origin):
    return next(p["state"] for p in holder.status()["peers"] if p["node"] == origin.name) == "lost"


def wait_lost(member, *holders):
    for holder in holders:
        wait_for(lambda h=holder: lost(h, member), 20, f"{holder.name} to miss {member.name}")


def wait_flows(member, wanted, what):
    wait_for(lambda: flows_of(member) == wanted, 30, f"{member.name} {what}", 0.1)


def dies(member):
    """The daemon is killed, and what its kernel has is of no use to anybody any more."""
    member.stop_ctsyncd(signal.SIGKILL)


def delete(member, first, number):
    """The keys of what was deleted."""
    before = set(flows_of(member))
    ctgen(member, "delete", "-o", first, "-n", number)
    return before - flows_of(member)


def serves(node, flows):
    """n1 is active with so many flows, and all three are equal; their keys."""
    takeover(node)
    ctgen(node, "create", "-n", flows)
    settled(*node.lab.members)
    return set(flows_of(node))


def test_second_takeover(cluster):
    """n1 dies, flows end on n2, which dies: n3 has all that lives.  In doubt it takes what n1 told, too."""
    n1, n2, n3 = cluster.members
    everything = serves(n1, FLOWS)
    dies(n1)
    assert takeover(n2)["failed"] == 0
    ctgen(n2, "delete", "-n", ENDED)
    wait_for(lambda: ended_here(n2, n1) == ENDED, 20, "n2 to know what has ended on it")
    ctgen(n2, "create", "-o", 10000, "-n", 100)
    settled(n2, n3)
    lived = flows_of(n2)
    assert len(lived) == FLOWS - ENDED + 100
    # A takeover more brings nothing back to where it has ended.
    again = takeover(n2)
    assert (again["ended"], again["failed"]) == (ENDED, 0) and flows_of(n2) == lived
    dies(n2)
    assert takeover(n3)["failed"] == 0
    assert flows_of(n3) == lived | everything
    wait_for(lambda: not n3.status()["two_active"], 10, "n3 to notice that n2 is dead")
    assert (n3.status()["role"], n3.status()["term"]) == ("active", 4)
    assert n3.ready()


def test_return_of_the_first(cluster):
    """n1 was cut off while n2 took over: back, it gives up what has ended, and only that; then failback."""
    n1, n2, n3 = cluster.members
    lived = serves(n1, FLOWS)
    cut(n1)
    wait_lost(n1, n2, n3)
    takeover(n2)
    ctgen(n2, "delete", "-n", ENDED)
    ctgen(n1, "create", "-o", 20000, "-n", 50)
    settled(n2, n3)
    lived = set(flows_of(n2)) | (flows_of(n1) - lived)
    assert len(lived) == FLOWS - ENDED + 50
    n1.ctsync("release")
    join(n1)
    settled(n1, n2, n3)
    wait_flows(n2, lived, "to take what n1 had meanwhile, and nothing else")
    wait_flows(n1, lived, "to give up what has ended")
    assert stats(n1)["kernel"]["purged_total"] == ENDED
    lived -= delete(n2, ENDED, 100)
    wait_flows(n1, lived, "to follow")
    n2.ctsync("release")
    takeover(n1)
    settled(n1, n2, n3)
    assert flows_of(n1) == lived and flows_of(n2) <= lived and not flows_of(n3)


def test_return_of_its_daemon(cluster):
    """The former active node's daemon comes back and tells its whole kernel again: ends stay ends."""
    n1, n2, n3 = cluster.members
    serves(n1, FLOWS)
    dies(n1)
    assert takeover(n2)["failed"] == 0
    ctgen(n2, "delete", "-n", ENDED)
    settled(n2, n3)
    lived = set(flows_of(n2))
    done = n1.run("env", f"CTSYNC_RUNTIME_DIR={n1.dir}", cluster.bin("ctsync"), "-s", n1.socket, "release",
                  check=False)
    assert done.returncode == 3             # recorded for when it is there again
    n1.start_ctsyncd()
    settled(n1, n2, n3)
    assert n1.status()["role"] == "standby"
    assert flows_of(n2) == lived
    wait_flows(n1, lived, "to give up what has ended")
    assert flows_of(n2) == lived and not flows_of(n3)


def test_two_active(cluster):
    """Two are active: said by all three; each follows the other, and no standby removes anything."""
    n1, n2, n3 = cluster.members
    serves(n1, FLOWS)
    takeover(n2)
    ctgen(n2, "delete", "-n", ENDED)
    ctgen(n1, "create", "-o", 20000, "-n", 200)
    ctgen(n2, "create", "-o", 30000, "-n", 300)
    settled(n1, n2, n3)
    for member in cluster.members:
        wait_for(lambda m=member: m.status()["two_active"], 10, f"{member.name} to say so")
        assert "TWO NODES AT ONCE" in member.ctsync("status").stdout
        assert not member.ready() or "TWO NODES AT ONCE" in member.status()["ready"]["reason"]
    lived = FLOWS - ENDED + 200 + 300
    wait_for(lambda: len(flows_of(n2)) == lived, 20, "n2 to follow n1", 0.1)
    wait_for(lambda: len(flows_of(n1)) == lived + ENDED, 20, "n1 to follow n2", 0.1)
    assert ended_here(n2, n1) == ENDED and ended_here(n3, n1) == 0
    lived = set(flows_of(n2))
    n1.ctsync("release")
    for member in cluster.members:
        wait_for(lambda m=member: not m.status()["two_active"], 10, f"{member.name} to see one")
    wait_flows(n1, lived, "to give up what has ended")
    assert flows_of(n2) == lived
    settled(n1, n2, n3)
    dies(n1)
    dies(n2)
    assert takeover(n3)["failed"] == 0
    assert flows_of(n3) == lived


def test_active_while_nobody_looked(cluster):
    """n1 stays active through a partition, without a word from anybody, while n2 carries flows on the other
    side.  That it was active is seen by its term, and n1 takes what it had."""
    n1, n2, n3 = cluster.members
    lived = serves(n1, FLOWS)
    cut(n1)
    wait_lost(n1, n2, n3)
    takeover(n2)
    ctgen(n2, "create", "-o", 10000, "-n", 500)
    settled(n2, n3)
    lived |= flows_of(n2)
    n2.ctsync("release")
    term = n2.status()["term"]
    join(n1)
    settled(n1, n2, n3)
    wait_flows(n1, lived, "to take what n2 had meanwhile")
    wait_for(lambda: n1.status()["term"] > term, 10, "n1 to go above the term of n2")
    assert n1.status()["role"] == "active" and n1.ready()


def test_flows_on_a_standby(cluster):
    """Packets reach a node of which nobody has said that it is active: its flows are everybody's."""
    n1, n2, n3 = cluster.members
    lived = serves(n1, FLOWS)
    ctgen(n2, "create", "-o", 10000, "-n", 500)
    lived |= flows_of(n2)
    wait_flows(n1, lived, "to follow the standby")
    settled(n1, n2, n3)
    dies(n2)
    wait_lost(n2, n1)
    assert flows_of(n1) == lived
    settled(n1, n3)
    dies(n1)
    assert takeover(n3)["failed"] == 0
    assert flows_of(n3) == lived


def test_reborn_elsewhere(cluster):
    """A tuple that ended and was used again while n1 was cut off: n1 gets the younger life."""
    n1, n2, n3 = cluster.members
    serves(n1, 500)
    cut(n1)
    wait_lost(n1, n2, n3)
    takeover(n2)
    ctgen(n2, "delete", "-n", 200)
    ctgen(n2, "create", "-n", 200, "-m", 7)
    settled(n2, n3)
    younger = {key: value for key, value in kernel_table(n2).items() if "mark=7" in value}
    assert len(younger) == 200
    n1.ctsync("release")
    join(n1)
    settled(n1, n2, n3)
    assert {k: v for k, v in kernel_table(n2).items() if "mark=7" in v} == younger, "n1's are older"
    n2.ctsync("release")
    assert takeover(n1)["failed"] == 0
    assert {k: v for k, v in kernel_table(n1).items() if "mark=7" in v} == younger
    assert len(flows_of(n1)) == 500
