# SPDX-License-Identifier: GPL-3.0-or-later
"""A wall clock that jumps: nothing but the log follows it."""

import re
import signal
import subprocess
import time

import pytest

from lab import HERE, wait_for
from tools import count, ctgen, log, peer, same_kernels, stats, wait_log, wait_proof

HOUR = 3600


@pytest.fixture
def wrong_clock(lab):
    """Start a daemon with a wall clock of its own, and set that: start(fw), set(fw, seconds)."""
    library = lab.run_dir / "wallclock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, HERE / "wallclock.c"], check=True)
    library.chmod(0o755)

    class Clock:
        @staticmethod
        def set(fw, seconds):
            (lab.run_dir / f"{fw.name}.clock").write_text(f"{seconds}\n")

        @staticmethod
        def start(fw):
            if not fw.config.exists():
                fw.write_config(extra='log = { level = "debug"; };')
            fw.daemon = fw.spawn("env", f"LD_PRELOAD={library}",
                                 f"WALLCLOCK={lab.run_dir}/{fw.name}.clock", lab.bin("ctsyncd"), "-c",
                                 fw.config, log=f"{fw.name}-ctsyncd.log")
            wait_for(fw.status, 10, f"{fw.name} to answer")
    return Clock


def wall(fw):
    """The wall clock of the daemon, as its last line has it."""
    stamps = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d+ ", log(fw), re.M)
    return time.mktime(time.strptime(stamps[-1], "%Y-%m-%d %H:%M:%S"))


def test_jumps(lab, wrong_clock):
    """An hour forwards, two backwards, on each node and under changes: nobody is lost or starts anew."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        wrong_clock.set(fw, 0)
        wrong_clock.start(fw)
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 5000)
    wait_proof(fw2)
    for number, (fw, seconds) in enumerate([(fw1, HOUR), (fw2, -HOUR), (fw1, -HOUR), (fw2, HOUR)]):
        wrong_clock.set(fw, seconds)
        ctgen(fw1, "update", "-n", 5000, "-m", 1 + number)
        ctgen(fw1, "create", "-o", 5000 + 500 * number, "-n", 500)
        wait_proof(fw2)
        assert count(fw2, "remote", "--mark", str(1 + number)) == 5000
        assert count(fw2, "remote", "-p", "tcp") == 5500 + 500 * number
        told = peer(fw2)
        assert told["state"] == "up" and told["verified_ms"] < 60000 and told["lag_ms"] < 60000
        fw.status()             # logged, with the time
        assert abs(wall(fw) - time.time() - seconds) < 600, "the clock of the daemon has jumped"
    for fw in (fw1, fw2):
        assert stats(fw)["peers"][fw.peer.name]["epochs_total"] == 1
        assert "lost" not in log(fw)
    same_kernels(fw2)


@pytest.mark.parametrize("who", ["active", "standby"])
def test_restart_in_the_past(lab, wrong_clock, who):
    """A daemon that is started again an hour earlier than it died is believed all the same."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        wrong_clock.set(fw, 0)
        wrong_clock.start(fw)
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 5000)
    wait_proof(fw2)
    fw = fw1 if who == "active" else fw2
    fw.stop_ctsyncd(signal.SIGKILL)
    ctgen(fw1, "delete", "-n", 1000)
    wrong_clock.set(fw, -HOUR)
    wrong_clock.start(fw)
    assert wall(fw) < time.time() - HOUR / 2
    wait_log(fw, f"{fw.peer.name} is there")
    assert len(same_kernels(fw2)) == 4000
    assert fw1.status()["role"] == "active"
