# SPDX-License-Identifier: GPL-3.0-or-later
"""Where other synchronisation daemons lose flows or keep dead ones, at sizes at which they do.

Each test compares by a proof (a digest that is newer than the last change), and then both kernels'
tables entry for entry.  Commits of many flows are in test_takeover.py.
"""

import signal
import time

import pytest

from lab import Traffic, passed, wait_for
from tools import (SRC_NAT, Background, count, ctgen, kernel_table, lose, losing, narrow, peer, proven,
                   same_kernels, stats, status_bits, takeover, wait_proof, widen)


def test_overrun(lab):
    """350,000 changes while nobody reads, with room for a few: all are found, deletions too."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd(extra='kernel = { event_buffer = "64K"; };')
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 60000)
    wait_proof(fw2)
    overruns = fw1.status()["kernel"]["overruns"]
    fw1.daemon.send_signal(signal.SIGSTOP)
    ctgen(fw1, "delete", "-n", 20000)
    ctgen(fw1, "create", "-o", 60000, "-n", 130000)
    ctgen(fw1, "update", "-o", 20000, "-n", 150000, "-m", 7)
    # And some come back as others than they were.
    ctgen(fw1, "delete", "-o", 50000, "-n", 25000)
    ctgen(fw1, "create", "-o", 50000, "-n", 25000, "-m", 8)
    began = time.monotonic()
    fw1.daemon.send_signal(signal.SIGCONT)
    wait_for(lambda: proven(fw2, began), 60, "fw2 to be equal again")
    assert fw1.status()["kernel"]["overruns"] > overruns
    table = same_kernels(fw2)
    assert len(table) == 170000
    assert sum(" mark=7 " in value for value in table.values()) == 125000
    assert count(fw2, "remote", "-p", "tcp") == 170000


def test_cut_for_ten_seconds(pair):
    """250,000 changes while nothing gets through, evenly over 10 s: equal when it is healed."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 50000)
    wait_proof(fw2)
    for fw in pair:
        lose(fw, 100)
    ctgen(fw1, "create", "-o", 50000, "-n", 150000, "-r", 25000)
    ctgen(fw1, "update", "-o", 20000, "-n", 50000, "-m", 3, "-r", 25000)
    ctgen(fw1, "delete", "-n", 50000, "-r", 25000)
    assert not peer(fw2)["in_sync"] and not peer(fw1)["peer_in_sync"]
    for fw in pair:
        lose(fw, 0)
    table = same_kernels(fw2)
    assert len(table) == 150000
    assert all(status_bits(value) & SRC_NAT for value in table.values())
    wait_for(lambda: peer(fw1)["peer_in_sync"], 30, "fw1 to know")


LIVE, DEAD = 60000, 20000


def kill_while_flows_end(fw1, fw2):
    """The active daemon is dead while flows end and others begin; it comes back over a very slow link.

    Returns when a part of the new synchronisation is done; how many flows fw2 had been told before it.
    """
    ctgen(fw1, "create", "-n", LIVE + DEAD)
    wait_proof(fw2)
    before = stats(fw2)["peers"]["fw1"]["flows_applied_total"]
    fw1.stop_ctsyncd(signal.SIGKILL)
    ctgen(fw1, "delete", "-o", LIVE, "-n", DEAD)
    ctgen(fw1, "create", "-k", "udp", "-n", 1000)
    narrow(fw1, "1mbit")
    fw1.start_ctsyncd()
    wait_for(lambda: stats(fw2)["peers"]["fw1"]["flows_applied_total"] > before + 2000, 60,
             "the new synchronisation to be under way")
    assert not fw2.in_sync(), "the synchronisation was over too soon for this test"
    return before


def test_active_killed_while_flows_end(pair):
    """The dead ones go, the live ones stay, and none goes before the new synchronisation says so."""
    fw1, fw2 = pair
    before = kill_while_flows_end(fw1, fw2)
    assert count(fw2, "remote", "-p", "tcp") == LIVE + DEAD
    narrow(fw1, "20mbit")
    seen = []
    began = time.monotonic()
    while not seen or not proven(fw2, began):
        seen.append(stats(fw2)["peers"]["fw1"])
    assert all(told["flows_applied_total"] >= before + LIVE for told in seen if told["swept_total"] > 0)
    assert any(told["swept_total"] == 0 for told in seen)
    assert min(told["flows"] for told in seen) >= LIVE
    assert stats(fw2)["peers"]["fw1"]["swept_total"] >= DEAD
    widen(fw1)
    assert count(fw2, "remote", "-p", "tcp") == LIVE
    assert len(same_kernels(fw2)) == LIVE + 1000


def test_takeover_before_the_new_synchronisation_is_done(pair):
    """The active daemon is back, half of it is told anew, and then its machine dies: nothing is lost."""
    fw1, fw2 = pair
    kill_while_flows_end(fw1, fw2)
    fw1.kill()
    live = {k: v for k, v in kernel_table(fw1).items() if "proto=6 " in k}
    assert len(live) == LIVE
    answer = takeover(fw2)
    assert answer["failed"] == 0 and "NOT verified" in answer["basis"]
    taken = kernel_table(fw2)
    assert {k: taken.get(k) for k in live} == live


def test_standby_killed_under_changes(pair):
    """200,000 flows, and more come and go all the time while the standby daemon dies and comes back."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 200000)
    wait_proof(fw2)
    churning = Background(lambda stop: churn(fw1, stop, 10000))
    fw2.stop_ctsyncd(signal.SIGKILL)
    ctgen(fw1, "delete", "-n", 20000)
    fw2.start_ctsyncd()
    wait_proof(fw2)
    assert churning.running(), "equal while flows come and go"
    churning.join()
    assert len(same_kernels(fw2)) == 180000


def churn(fw, stop, rate, *options, start=300000):
    """Flows come and go at that rate of changes until it is stopped; how many came."""
    made = 0
    while not stop.is_set():
        ctgen(fw, "churn", "-o", start + made % 200000, "-n", rate // 4, "-L", 1000, "-r", rate // 2,
              *options)
        made += rate // 4
    return made


def test_loss_at_a_high_rate(pair):
    """5 % of all datagrams are lost, both ways, under 40,000 changes/s: equal meanwhile, and after."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 50000)
    wait_proof(fw2)
    with losing(pair, 5):
        churning = Background(lambda stop: churn(fw1, stop, 20000))
        for mark in (1, 2, 3):
            ctgen(fw1, "update", "-n", 50000, "-m", mark, "-r", 20000)
            wait_proof(fw2)
        assert churning.running()
        churning.join()
        assert count(fw2, "remote", "--mark", "3") == 50000
        assert len(same_kernels(fw2)) == 50000
    assert stats(fw1)["local"]["frames_resent_total"] > 0


@pytest.mark.parametrize("first", ["addresses", "takeover"])
def test_order_of_takeover_and_addresses(lab, first):
    """180 connections: whether the addresses or the takeover come first, all survive."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd()
    fw1.ctsync("takeover")
    traffic = Traffic(lab, connections=180)
    traffic.start()
    fw2.wait_ready()
    fw1.kill()
    if first == "addresses":
        fw2.take_addresses()
        # Packets of running connections arrive where nobody knows them.
        wait_for(lambda: sum(fw2.drops().values()) > 20, 20, "packets without a flow")
        answer = takeover(fw2, check=False)
        # A datagram that came first in the other direction has made a flow that does the same work.
        assert all(f["example"].startswith("udp") and "tuple" in f["reason"]
                   for f in answer["failures"])
    else:
        takeover(fw2)
        fw2.take_addresses()
    before = fw2.drops()
    traffic.wait_progress(60)
    assert passed(traffic.finish())
    assert fw2.drops() == before
