# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at any time, start again: it just works."""

import signal

import pytest

from lab import Traffic, passed, wait_for
from tools import (Background, count, ctgen, differences, kernel_table, peer, stats, takeover,
                   wait_equal, wait_holds, wait_log)

FLOWS = 5000


def kill_daemon(fw):
    """SIGKILL to the daemon alone; what it leaves behind stays."""
    assert fw.stop_ctsyncd(signal.SIGKILL) == -signal.SIGKILL
    assert fw.socket.exists() and (fw.dir / "lock").exists()


@pytest.mark.smoke
def test_standby(pair):
    """The standby starts with nothing and is equal again, with what changed meanwhile."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    wait_holds(fw2, FLOWS)
    kill_daemon(fw2)
    ctgen(fw1, "delete", "-n", 1000)
    ctgen(fw1, "create", "-o", FLOWS, "-n", 1500)
    ctgen(fw1, "update", "-o", 2000, "-n", 100, "-m", 9)
    fw2.start_ctsyncd()
    fw2.wait_ready()
    wait_equal(fw2)
    assert count(fw2, "remote", "-p", "tcp") == FLOWS + 500
    assert count(fw2, "remote", "--mark", "9") == 100
    takeover(fw2)
    assert not differences(kernel_table(fw1), kernel_table(fw2))


@pytest.mark.smoke
def test_active(pair):
    """The flows of the active node go on, its role survives, the standby's copy is usable throughout."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    wait_holds(fw2, FLOWS)
    held = count(fw2, "remote", "-p", "tcp")

    def watch(stop):
        least = held
        while not stop.is_set():
            least = min(least, count(fw2, "remote", "-p", "tcp"))
        return least

    watching = Background(watch)
    kill_daemon(fw1)
    wait_for(lambda: peer(fw2)["state"] == "lost", 20, "fw2 to notice")
    assert fw2.ready() and "death of fw1" in fw2.status()["ready"]["reason"]
    ctgen(fw1, "create", "-o", FLOWS, "-n", 500)       # nobody sees this happen
    fw1.start_ctsyncd()
    assert fw1.status()["role"] == "active"
    wait_log(fw1, "role: active, as before the restart")
    fw2.wait_ready()
    wait_equal(fw2)
    assert watching.join() == held
    assert count(fw2, "remote", "-p", "tcp") == held + 500
    assert stats(fw2)["peers"]["fw1"]["epochs_total"] == 2


def test_takeover_while_the_active_daemon_is_dead(pair):
    """Its copy is what there is, and it is all there."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    wait_holds(fw2, FLOWS)
    kill_daemon(fw1)
    wait_for(lambda: peer(fw2)["state"] == "lost", 20, "fw2 to notice")
    answer = takeover(fw2)
    assert answer["created"] >= FLOWS and "death of fw1" in answer["basis"]
    assert not differences(kernel_table(fw1), kernel_table(fw2))


def test_active_under_traffic(lab):
    """The connections do not notice that the daemon died; a failover right after its return is fine."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd()
    fw1.ctsync("takeover")
    traffic = Traffic(lab, connections=60, udp=10, ping=5)
    traffic.start()
    fw2.wait_ready()
    kill_daemon(fw1)
    traffic.wait_progress()
    fw1.start_ctsyncd()
    wait_for(lambda: peer(fw2)["state"] == "up" and fw2.in_sync() and
             count(fw2, "remote", "-p", "tcp", "--state", "ESTABLISHED") >= 60, 20, "equal again")
    traffic.wait_progress()
    fw1.kill()
    takeover(fw2)
    fw2.take_addresses()
    traffic.wait_progress()
    assert passed(traffic.finish())


@pytest.mark.smoke
def test_both_at_once(pair):
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    wait_holds(fw2, FLOWS)
    for fw in (fw1, fw2):
        fw.daemon.kill()
    for fw in (fw1, fw2):
        kill_daemon(fw)
    for fw in (fw1, fw2):
        fw.start_ctsyncd(wait=False)
    wait_for(fw1.status, 10, "fw1 to answer")
    wait_for(fw2.status, 10, "fw2 to answer")
    fw2.wait_ready()
    wait_equal(fw2)
    assert fw1.status()["role"] == "active" and fw2.status()["role"] == "standby"
    assert count(fw2, "remote", "-p", "tcp") == FLOWS


def test_again_and_again(pair):
    """Whoever it hits, and while flows come and go."""
    fw1, fw2 = pair

    def churn(stop):
        start = 0
        while not stop.is_set():
            ctgen(fw1, "churn", "-o", start, "-n", 1000, "-L", 300, "-r", 5000)
            start += 1000
        return start

    churning = Background(churn)
    for fw in (fw2, fw1, fw2, fw1, fw1, fw2):
        kill_daemon(fw)
        fw.start_ctsyncd()
    churning.join()
    fw2.wait_ready()
    wait_equal(fw2)


def test_reboot_of_the_active_node(pair):
    """It comes back empty: that its table is empty takes nothing from who took over."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    wait_holds(fw2, FLOWS)
    fw1.kill()
    takeover(fw2)
    fw1.boot()
    fw1.start_ctsyncd()
    assert fw1.status()["role"] == "standby"
    wait_holds(fw1, FLOWS)
    wait_equal(fw1)
    assert len(kernel_table(fw2)) == FLOWS and len(kernel_table(fw1)) == 0
    # And it takes over in its turn.
    fw2.kill()
    assert takeover(fw1)["created"] >= FLOWS
    assert len(kernel_table(fw1)) == FLOWS
