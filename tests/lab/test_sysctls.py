# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel tells of flows, and counts their packets, only while two sysctls say so: the daemon sees to it,
and says loudly where it cannot."""

import time

import pytest

from lab import wait_for
from tools import (Background, count, ctgen, kernel_table, log, stats, takeover, wait_equal, wait_holds,
                   wait_log)

EVENTS = "net.netfilter.nf_conntrack_events"
ACCT = "net.netfilter.nf_conntrack_acct"
GENERATED = ("-s", "100.64.0.0/10")
NO_AUDIT = "kernel = { audit_s = 3600; };"


def put(fw, name, value):
    fw.run("sysctl", "-q", "-w", f"{name}={value}")


def get(fw, name):
    return int(fw.run("sysctl", "-n", name).stdout)


def start(lab, extra=NO_AUDIT):
    """fw1 is active, fw2 equal; no audit finds what nobody has told."""
    for fw in (lab.fw1, lab.fw2):
        fw.start_ctsyncd(extra=extra)
    lab.fw1.ctsync("takeover")
    lab.fw2.wait_ready()
    return lab.fw1, lab.fw2


def alerts(fw):
    return {alert["id"] for alert in fw.status()["alerts"]}


class Creating:
    """Flows come into being on a node, a hundred at a time; how many there were, and when."""

    def __init__(self, fw):
        self.fw = fw
        self.made = [(time.monotonic(), 0)]
        self.work = Background(self._work)

    def _work(self, stop):
        while not stop.is_set():
            ctgen(self.fw, "create", "-o", self.made[-1][1], "-n", 100)
            self.made.append((time.monotonic(), self.made[-1][1] + 100))
            stop.wait(0.05)

    def by(self, when):
        """How many there were at that time, at least."""
        return max(number for at, number in self.made if at <= when or number == 0)

    def total(self):
        return self.made[-1][1]

    def end(self):
        self.work.join()
        return self.total()


class Watching:
    """What a node claims of its copy of the peer: [time of a claim that was false]."""

    def __init__(self, fw, creating):
        self.fw = fw
        self.creating = creating
        self.claims = []
        self.work = Background(self._work)

    def _work(self, stop):
        while not stop.is_set():
            asked = time.monotonic()
            status = self.fw.status()
            (told,) = status["peers"]
            if told["in_sync"]:
                proof = asked - (told["verified_ms"] + 1) / 1000
                self.claims.append((time.monotonic(), proof, status["remote"]["flows"]))
            stop.wait(0.05)

    def false_for(self):
        """For how many seconds it claimed to be equal although flows were missing."""
        self.work.join()
        false = [at for at, proof, flows in self.claims if flows < self.creating.by(proof)]
        return false[-1] - false[0] if false else 0


@pytest.mark.smoke
def test_events_switched_off(lab):
    """Under changes: they are on again within two seconds, and so long at most fw2 takes itself for equal."""
    fw1, fw2 = start(lab)
    creating = Creating(fw1)
    watching = Watching(fw2, creating)
    wait_for(lambda: creating.total() >= 500, 20, "some flows")
    dumps = stats(fw1)["kernel"]["dumps_total"]
    put(fw1, EVENTS, 0)
    wait_for(lambda: get(fw1, EVENTS) == 1, 2, "events to be on again")
    wait_log(fw1, f"SOMEBODY HAS SET {EVENTS} TO 0: set to 1 again")
    wait_for(lambda: stats(fw1)["kernel"]["dumps_total"] > dumps, 5, "the kernel's table to be read again")
    seen = creating.total()
    wait_for(lambda: creating.total() > seen + 500, 20, "some more flows")
    total = creating.end()
    wait_for(lambda: count(fw2, "remote", *GENERATED) == total and fw2.in_sync(), 20, "fw2 to have all of them")
    assert len(kernel_table(fw1)) == total
    assert watching.false_for() <= 2
    wait_equal(fw2)
    assert stats(fw1)["kernel"]["dump_added_total"] > 0, "none was silent"
    assert fw1.ready() and fw2.ready() and "no_events" not in alerts(fw1)
    fw1.kill()
    assert takeover(fw2)["failed"] == 0
    assert len(kernel_table(fw2)) == total


def test_counters_switched_off(lab):
    """They are on again within two seconds; what was born meanwhile has none, and survives all the same."""
    fw1, fw2 = start(lab)
    put(fw1, ACCT, 0)
    ctgen(fw1, "create", "-n", 500)
    wait_for(lambda: get(fw1, ACCT) == 1, 2, "counters to be on again")
    wait_log(fw1, f"somebody has set {ACCT} to 0: set to 1 again")
    wait_holds(fw2, 500)
    takeover(fw2)
    fw1.ctsync("release")
    wait_equal(fw1)
    fw2.ctsync("release")
    takeover(fw1)
    assert len(kernel_table(fw1)) == len(kernel_table(fw2)) == 500


@pytest.mark.usefixtures("read_only")
def test_blind(lab):
    """Events are off for good: said in capitals, in metrics and by ready; fw2 does not take itself for equal."""
    fw1, fw2 = start(lab)
    ctgen(fw1, "create", "-n", 500)
    wait_holds(fw2, 500)
    put(fw1, EVENTS, 0)
    ctgen(fw1, "create", "-o", 500, "-n", 300)
    wait_for(lambda: not fw2.in_sync(), 2, "fw2 to know that it is not equal")
    assert get(fw1, EVENTS) == 0 and "and it cannot be set to 1" in log(fw1)
    assert "no_events" in alerts(fw1) and "no_events" not in alerts(fw2)
    assert "NO KERNEL EVENTS" in fw1.ctsync("status").stdout
    assert "NO KERNEL EVENTS" in fw1.status()["ready"]["reason"]
    assert "ctsync_alert_no_events 1" in fw1.ctsync("metrics").stdout
    assert "ctsync_alert_no_events 0" in fw2.ctsync("metrics").stdout
    done = fw2.ctsync("ready", check=False)
    assert done.returncode == 1 and "fw1" in done.stdout, done
    put(fw1, EVENTS, 1)
    wait_for(lambda: "no_events" not in alerts(fw1), 3, "fw1 to see that they are on")
    assert f"{EVENTS} is 1 again" in log(fw1) and "over: NO KERNEL EVENTS" in log(fw1)
    wait_for(lambda: fw2.in_sync() and count(fw2, "remote", *GENERATED) == 800, 10, "fw2 to have all")
    wait_equal(fw2)
    assert fw2.ready()


@pytest.mark.usefixtures("read_only")
def test_blind_from_the_start(lab):
    """The same at the start: an audit still finds flows, and nobody takes that for the truth."""
    fw1, fw2 = lab.fw1, lab.fw2
    for name in (EVENTS, ACCT):
        put(fw1, name, 0)
    ctgen(fw1, "create", "-n", 500)
    for fw in (fw1, fw2):
        fw.start_ctsyncd(extra="kernel = { audit_s = 1; };")
    fw1.ctsync("takeover")
    for name in (EVENTS, ACCT):
        assert get(fw1, name) == 0 and f"{name} is 0 and cannot be set" in log(fw1)
    assert "TELL NOTHING" in log(fw1) and "no_events" in alerts(fw1)
    ctgen(fw1, "create", "-o", 500, "-n", 500)
    wait_for(lambda: count(fw2, "remote", *GENERATED) == 1000, 20, "the audit to find the new ones")
    assert not fw2.in_sync() and not fw2.ready()
    # It is all that there is: a takeover takes it, and says what it is worth.
    fw1.kill()
    answer = takeover(fw2)
    assert answer["failed"] == 0 and "NOT verified" in answer["basis"], answer
    assert len(kernel_table(fw2)) == 1000
