# SPDX-License-Identifier: GPL-3.0-or-later
"""Too slow: a link that cannot carry all changes, and daemons that stand still for a while."""

import signal
import time

import pytest

from lab import wait_for
from tools import Background, count, ctgen, narrow, peer, same_kernels, stats, wait_proof

SEEN_REPLY = "0xa"              # and confirmed, not assured


def test_narrow_link(pair):
    """50,000 changes/s over 10 Mbit/s: it carries useful data, and they are equal soon after.

    Flows without an answer change faster than can be told; those that matter overtake them.
    """
    fw1, fw2 = pair
    for fw in pair:
        narrow(fw, "1mbit")
    # More than the link carries in half a minute, and all of it is news again and again.
    ctgen(fw1, "create", "-n", 100000, "-B", SEEN_REPLY)

    def change(stop):
        mark = 0
        while not stop.is_set():
            mark += 1
            ctgen(fw1, "update", "-n", 50000, "-B", SEEN_REPLY, "-m", mark, "-r", 50000)
    changing = Background(change)
    for number in range(5):
        ctgen(fw1, "create", "-o", 200000 + 1000 * number, "-n", 1000)
        wait_for(lambda n=number: count(fw2, "remote", "--assured") >= 1000 * (n + 1), 60,
                 "assured flows to arrive")
        if number == 0:
            assert count(fw2, "remote", "-p", "tcp") < 101000, "assured flows overtake the others"
            for fw in pair:
                narrow(fw, "10mbit")
    changing.join()
    assert len(same_kernels(fw2)) == 105000
    sent = stats(fw1)["local"]
    assert sent["frames_resent_total"] <= sent["frames_total"], \
        "most of what was sent had been sent before"


@pytest.mark.parametrize("who", ["active", "standby"])
def test_standstill(pair, who):
    """A daemon is stopped for 10 s while flows change, and goes on: equal, and no false claim meanwhile."""
    fw1, fw2 = pair
    stopped = fw1 if who == "active" else fw2
    ctgen(fw1, "create", "-n", 20000)
    wait_proof(fw2)
    began = time.monotonic()
    stopped.daemon.send_signal(signal.SIGSTOP)
    # 10 s of it.
    ctgen(fw1, "update", "-n", 20000, "-m", 6, "-r", 10000)
    ctgen(fw1, "churn", "-o", 100000, "-n", 30000, "-L", 3000, "-r", 5000)
    ctgen(fw1, "delete", "-n", 5000, "-r", 5000)
    ctgen(fw1, "create", "-o", 20000, "-n", 5000, "-r", 5000)
    assert time.monotonic() - began >= 10
    other = stopped.peer
    assert peer(other)["state"] == "lost"
    assert not peer(other)["in_sync"] and not peer(other)["peer_in_sync"]
    moved = time.monotonic()
    stopped.daemon.send_signal(signal.SIGCONT)
    # Whatever the first answer says, it does not rest on anything from before.
    told = peer(fw2)
    assert not told["in_sync"] or time.monotonic() - told["verified_ms"] / 1000 > moved
    table = same_kernels(fw2)
    assert len(table) == 20000
    assert count(fw2, "remote", "--mark", "6") == 15000
    wait_for(lambda: peer(fw1)["peer_in_sync"] and peer(fw1)["in_sync"], 30, "fw1 to know")
