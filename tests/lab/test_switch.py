# SPDX-License-Identifier: GPL-3.0-or-later
"""Planned switches there and back with traffic, and takeovers that are interrupted."""

import signal

from lab import Traffic, passed, wait_for
from tools import ctgen, differences, kernel_table, log, takeover, wait_equal, wait_holds

MANY = 150000


def test_there_and_back(lab):
    """Three planned switches: what the former active node still holds is stale, and is not believed."""
    old, new = lab.fw1, lab.fw2
    for fw in (old, new):
        fw.start_ctsyncd()
    old.ctsync("takeover")
    traffic = Traffic(lab, connections=300)
    traffic.start()
    for _ in range(3):
        new.wait_ready()
        old.drop_addresses()
        old.ctsync("release")
        answer = takeover(new)
        assert answer["failed"] == 0
        new.take_addresses()
        # Long enough for a window that was wrongly taken for known to be enforced.
        traffic.wait_progress(30)
        wait_for(lambda: new.status()["kernel"]["resyncs"] >= 3, 30, "looks after the takeover", 0.5)
        traffic.wait_progress(30)
        assert new.drops()["unknown"] == 0
        old, new = new, old
    assert passed(traffic.finish())


def test_killed_in_the_middle(pair):
    """A takeover that kill -9 interrupts goes on after the restart; until then the node is not ready."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", MANY)
    wait_holds(fw2, MANY)
    before = kernel_table(fw1)
    wait_equal(fw2)
    command = fw2.spawn(fw2.lab.bin("ctsync"), "-s", fw2.socket, "takeover", log="takeover.log")
    wait_for(lambda: fw2.kernel_count() > MANY // 50, 20, "the takeover to be at work", 0.002)
    fw2.stop_ctsyncd(signal.SIGKILL)
    command.wait(timeout=20)
    done = fw2.kernel_count()
    fw2.start_ctsyncd()
    if done < MANY:
        assert "a takeover was under way" in log(fw2)
    assert fw2.status()["role"] == "active"
    wait_for(lambda: fw2.ready(), 60, "fw2 to be ready", 0.1)
    assert not differences(before, kernel_table(fw2))
