# SPDX-License-Identifier: GPL-3.0-or-later
"""Takeovers by hand: nothing alive is lost, nothing dead stays; and what status says."""

import subprocess

import pytest

from keepalived import CONF
from lab import wait_for
from test_keepalived import alert, tells
from tools import configure, ctgen, kernel_table, takeover, wait_holds, wait_proof

FLOWS = 2000
NEW = 500
MANY = 150000
PURGE_S = 2
# A purge asks after purge_s, twice, and only of a peer that is proved equal.
PURGED_S = 40


@pytest.fixture
def both(lab):
    """fw1 is active with FLOWS flows, fw2 has a copy of all: (fw1, fw2)."""
    for fw in (lab.fw1, lab.fw2):
        configure(fw, takeover_keys=f"purge_s = {PURGE_S};")
        fw.start_ctsyncd()
    takeover(lab.fw1)
    lab.fw2.wait_ready()
    ctgen(lab.fw1, "create", "-n", FLOWS)
    wait_holds(lab.fw2, FLOWS)
    wait_proof(lab.fw2)
    return lab.fw1, lab.fw2


def wait_kernel(fw, wanted, timeout, what):
    """Until the kernel of fw has exactly these flows."""
    wait_for(lambda: kernel_table(fw).keys() == wanted, timeout,
             lambda: f"{what}: {len(kernel_table(fw))} entries on {fw.name} instead of {len(wanted)}", 0.2)


# -- takeovers by hand ---------------------------------------------------------------------------


def test_never_released(both):
    """fw2 takes over and gets flows of its own; fw1, which was active all the time, takes over again."""
    fw1, fw2 = both
    takeover(fw2)
    ctgen(fw2, "create", "-o", FLOWS, "-n", NEW)
    wait_proof(fw1)
    everything = kernel_table(fw2).keys()
    assert len(everything) == FLOWS + NEW
    fw2.ctsync("release")
    takeover(fw1)
    wait_kernel(fw1, everything, 10, "fw1 takes what fw2 has")


def test_role_kept_over_a_death(both):
    """The same after the daemon of fw1 was dead meanwhile and came back as active."""
    fw1, fw2 = both
    fw1.stop_ctsyncd(9)
    takeover(fw2)
    ctgen(fw2, "create", "-o", FLOWS, "-n", NEW)
    everything = kernel_table(fw2).keys()
    fw1.start_ctsyncd()
    wait_proof(fw1)
    fw2.ctsync("release")
    takeover(fw1)
    wait_kernel(fw1, everything, 10, "fw1 takes what fw2 has")


def test_release_in_the_first_moment(both):
    """A takeover that a release overtakes after 5 ms, and another one: all is there when it is ready."""
    fw1, fw2 = both
    ctgen(fw1, "create", "-o", FLOWS, "-n", 20000 - FLOWS)
    wait_holds(fw2, 20000)
    wait_proof(fw2)
    first = fw2.spawn(fw2.lab.bin("ctsync"), "-s", fw2.socket, "takeover", log="first.log")
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(timeout=0.005)
    fw2.ctsync("release")
    answer = takeover(fw2)
    first.wait(timeout=60)
    assert answer["failed"] == 0
    wait_for(fw2.ready, 30, "fw2 to be ready")
    assert fw2.status()["role"] == "active"
    assert len(kernel_table(fw2)) == 20000


def notify(fw, state):
    """What keepalived starts."""
    return fw.spawn("env", f"CTSYNC={fw.lab.bin('ctsync')}", f"CTSYNC_SOCKET={fw.socket}",
                    f"CTSYNC_RUNTIME_DIR={fw.dir}", CONF / "ctsyncd-notify.sh", "GROUP", "firewall", state,
                    log="notify.log")


def test_scripts_during_a_takeover(both):
    """BACKUP ends the takeover that runs, MASTER begins it anew; nobody waits for a takeover to be through."""
    fw1, fw2 = both
    ctgen(fw1, "create", "-o", FLOWS, "-n", MANY - FLOWS)
    wait_holds(fw2, MANY, 60)
    wait_proof(fw2)
    master = notify(fw2, "MASTER")
    wait_for(lambda: fw2.kernel_count() > MANY // 50, 20, "the takeover to be at work", 0.002)
    backup = notify(fw2, "BACKUP")
    wait_for(lambda: fw2.status()["role"] == "standby", 20, "fw2 to be standby", 0.005)
    assert fw2.kernel_count() < MANY
    for script in (master, backup):
        script.wait(timeout=60)
    assert fw2.status()["role"] == "standby" and fw2.kernel_count() < MANY
    assert notify(fw2, "MASTER").wait(timeout=60) == 0
    wait_for(fw2.ready, 30, "fw2 to be ready")
    assert fw2.status()["role"] == "active"
    assert len(kernel_table(fw2)) == MANY


# -- what a standby keeps too long ---------------------------------------------------------------------


@pytest.mark.parametrize("command", [("flush", "local"), ("commit",), ("resync",)])
def test_refilled_standby_is_purged(both, command):
    """A standby that has flows in its kernel reads them again: they go with those of the active node."""
    fw1, fw2 = both
    fw1.ctsync("release")
    takeover(fw2)
    wait_proof(fw1)
    fw2.ctsync("release")
    takeover(fw1)
    fw2.wait_ready()
    fw2.ctsync(*command)
    wait_proof(fw2)
    ctgen(fw1, "delete", "-n", NEW)
    wait_kernel(fw2, kernel_table(fw1).keys(), PURGED_S, f"after {' '.join(command)}")


def test_opened_between_release_and_takeover(both):
    """A flow that was opened on the relieved node goes there when it ends on the other."""
    fw1, fw2 = both
    fw1.ctsync("release")
    ctgen(fw1, "create", "-o", FLOWS, "-n", NEW)
    takeover(fw2)
    wait_proof(fw1)
    ctgen(fw2, "delete", "-o", FLOWS, "-n", NEW, check=False)      # what it knows of them
    wait_for(lambda: kernel_table(fw1).keys() <= kernel_table(fw2).keys(), PURGED_S,
             "fw1 to keep nothing that fw2 does not have", 0.2)
    assert len(kernel_table(fw2)) == FLOWS


def test_deleted_on_a_standby(both):
    """What a program deletes on the relieved node says nothing of the flows of fw2."""
    fw1, fw2 = both
    fw1.ctsync("release")
    takeover(fw2)
    wait_proof(fw1)
    before = kernel_table(fw1).keys()
    ctgen(fw1, "delete", "-n", NEW)
    ended = before - kernel_table(fw1).keys()
    assert len(ended) == NEW
    wait_proof(fw1)
    wait_proof(fw2)
    assert ended <= kernel_table(fw2).keys()
    fw2.ctsync("release")
    takeover(fw1)
    assert ended <= kernel_table(fw1).keys()


# -- what status says ---------------------------------------------------------------------------------


def test_nobody_is_active(lab):
    """Two cold nodes."""
    for fw in (lab.fw1, lab.fw2):
        fw.start_ctsyncd(boot_wait_s=0)
    for fw in (lab.fw1, lab.fw2):
        tells(fw, "NO NODE IS ACTIVE")
        assert alert(fw, "no_active")
    takeover(lab.fw1)
    for fw in (lab.fw1, lab.fw2):
        wait_for(lambda f=fw: "NO NODE IS ACTIVE" not in f.ctsync("status").stdout, 20, "it to be over")
        assert not alert(fw, "no_active")


def test_both_are_active(pair):
    assert not alert(pair[0], "two_active")
    takeover(pair[1])
    for fw in pair:
        tells(fw, "TWO NODES AT ONCE")
        assert alert(fw, "two_active")


def test_peer_with_another_key(lab):
    """Its packets come and are refused: it is not lost, and this node is not ready, whatever it waited."""
    other = lab.run_dir / "other-key"
    lab._write_key(other)
    lab.fw1.start_ctsyncd(boot_wait_s=1)
    lab.fw2.start_ctsyncd(boot_wait_s=1, key_file=other)
    for fw in (lab.fw1, lab.fw2):
        tells(fw, "REFUSED")
        assert not fw.ready()
        assert alert(fw, "refused")


def test_events_switched_off(both):
    """nf_conntrack_events set to 0 at run time: repaired, or at least not claimed equal, and soon whole."""
    fw1, fw2 = both
    fw1.sysctl(net__netfilter__nf_conntrack_events=0)
    ctgen(fw1, "create", "-o", FLOWS, "-n", NEW)

    def noticed():
        again = fw1.run("sysctl", "-n", "net.netfilter.nf_conntrack_events").stdout.strip()
        return again == "1" or not fw2.in_sync()
    wait_for(noticed, 10, "the daemon to notice", 0.05)
    wait_holds(fw2, FLOWS + NEW, 20)
