# SPDX-License-Identifier: GPL-3.0-or-later
"""Eight nodes: each holds the flows of all others, whoever joins, leaves or dies."""

import signal

import pytest

from cluster import Cluster
from lab import wait_for
from tools import Background, count, ctgen, kernel_table, listed, losing, stats, takeover, wait_proof

FLOWS = 3000


@pytest.fixture
def cluster(bin_dir):
    with Cluster(bin_dir, 8) as topology:
        yield topology


def held(holder, origin):
    """What `holder` has of the flows of `origin`."""
    return int(holder.ctsync("count", "remote", "--peer", origin.name).stdout)


def names(members, but):
    return [m.name for m in members if m is not but]


def all_equal(members):
    """By a proof of each about each, and flow for flow."""
    for holder in members:
        wait_proof(holder, of=names(members, holder))
    flows = {m: listed(m, "local") for m in members}
    for holder in members:
        theirs = set().union(*(flows[m] for m in members if m is not holder))
        assert listed(holder, "remote") == theirs, f"what {holder.name} has of all others"


def test_eight_nodes(cluster):
    """Flows on five of eight; nodes come, go, die, are cut off and stand still meanwhile."""
    n1, n2, n3, n4, n5, n6, n7, n8 = cluster.members
    for member in cluster.members[:7]:
        member.start_ctsyncd()
    n1.ctsync("takeover")
    for number, member in enumerate((n1, n2, n3, n4, n7)):
        ctgen(member, "create", "-o", number * 10000, "-n", FLOWS)
    all_equal(cluster.members[:7])

    churning = Background(lambda stop: churn(n1, stop))
    # One leaves in order, one dies, one is cut off, one stands still, one joins.
    assert n2.stop_ctsyncd() == 0
    n3.stop_ctsyncd(signal.SIGKILL)
    n4.daemon.send_signal(signal.SIGSTOP)
    n8.start_ctsyncd()
    with losing([n5], 100):
        for holder in (n6, n8):
            wait_proof(holder, of=["n1", "n7"])
        wait_for(lambda: all(state(n6, m) == "lost" for m in (n2, n3, n4)), 30, "n6 to notice")
        ctgen(n3, "delete", "-o", 20000, "-n", 1000)
        ctgen(n2, "create", "-o", 15000, "-n", 500)
        ctgen(n7, "update", "-o", 40000, "-n", 1000, "-m", 4)
        assert held(n6, n2) >= FLOWS and held(n6, n3) >= FLOWS, "flows of lost nodes are kept"
    n4.daemon.send_signal(signal.SIGCONT)
    for member in (n2, n3):
        member.start_ctsyncd()
    for member in cluster.members[1:]:
        wait_proof(member, of=["n1"])
    assert churning.running(), "equal while flows come and go"
    churning.join()
    all_equal(cluster.members)
    assert held(n5, n3) == FLOWS - 1000 and held(n8, n2) == FLOWS + 500
    assert count(n5, "remote", "--peer", "n7", "--mark", "4") == 1000
    # Who was never away was never troubled.
    assert stats(n6)["peers"]["n7"]["generations_total"] == 1
    assert stats(n6)["peers"]["n1"]["generations_total"] == 1


def churn(member, stop):
    start = 0
    while not stop.is_set():
        ctgen(member, "churn", "-o", 100000 + start % 50000, "-n", 2000, "-L", 500, "-r", 2000)
        start += 2000


def state(holder, origin):
    return next(p["state"] for p in holder.status()["peers"] if p["node"] == origin.name)


def test_all_at_once(cluster):
    """Eight daemons start, die and start again together; one of them takes over from all."""
    members = cluster.members
    for number, member in enumerate(members):
        ctgen(member, "create", "-o", number * 10000, "-n", 1000)
        member.start_ctsyncd(wait=False)
    for member in members:
        wait_for(member.status, 30, f"{member.name} to answer")
    all_equal(members)
    for member in members:
        member.daemon.kill()
    for member in members:
        member.stop_ctsyncd()
        ctgen(member, "delete", "-o", (member.number - 1) * 10000, "-n", 100)
    for member in members:
        member.start_ctsyncd(wait=False)
    for member in members:
        wait_for(member.status, 30, f"{member.name} to answer")
    all_equal(members)
    assert all(count(member, "remote", "-p", "tcp") == 7 * 900 for member in members)
    n3 = members[2]
    everything = {k for member in members for k in kernel_table(member)}
    answer = takeover(n3)
    assert answer["failed"] == 0
    assert kernel_table(n3).keys() == everything and len(everything) == 8 * 900
