# SPDX-License-Identifier: GPL-3.0-or-later
"""The notify script: whoever runs it, whether the daemon runs or not, and when it comes late.

The role is that of what was asked for last, in the end, whatever happened on the way.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab import HERE, wait_for
from tools import (count, ctgen, differences, kernel_table, log, takeover, wait_equal, wait_holds,
                   wait_log)

SCRIPT = HERE.parents[1] / "conf" / "ctsyncd-notify.sh"
# Users that every Debian has: the daemon's, and somebody else.
USER, OTHER = "games", "news"
MANY = 200000


class Notify:
    """The script and what it needs, where other users can read it; what it logs goes to stdout."""

    def __init__(self, lab):
        self.dir = lab.run_dir / "programs"
        self.dir.mkdir(mode=0o755)
        for source in (SCRIPT, lab.bin("ctsync")):
            shutil.copy(source, self.dir)
        shutil.copy("/bin/sh", self.dir / "keepalived")     # what counts is the name
        logger = self.dir / "logger"
        logger.write_text('#!/bin/sh\necho "$@"\n')
        for path in self.dir.iterdir():
            path.chmod(0o755)

    def command(self, fw, state, user=None, group=None, delay=0.0, wrapped=False):
        """delay: between the start and the script; wrapped: it is called by another one of keepalived's."""
        words = ["env", f"PATH={self.dir}:/usr/sbin:/usr/bin:/sbin:/bin", f"CTSYNC_SOCKET={fw.socket}",
                 f"CTSYNC_RUNTIME_DIR={fw.dir}"]
        if user is not None:
            words += ["setpriv", f"--reuid={user}", f"--regid={group or user}", "--clear-groups"]
        if wrapped:
            words += [self.dir / "keepalived", "-c", '"$0" "$@"; exit $?',
                      "sh", "-c", f'sleep {delay}; "$0" "$@"; exit $?']
        elif delay:
            words += ["sh", "-c", f'sleep {delay}; exec "$0" "$@"']
        return fw.command([*words, self.dir / SCRIPT.name, "GROUP", "firewall", state, 100])

    def start(self, fw, state, **how):
        """One that runs beside what follows."""
        return subprocess.Popen(self.command(fw, state, **how), text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def run(self, fw, state, code=0, **how):
        """Run it to its end, which must be `code`; what it logged."""
        return self.end(self.start(fw, state, **how), code)

    @staticmethod
    def end(process, code=0):
        said = process.communicate(timeout=60)[0]
        assert process.returncode == code, said
        assert f"-p daemon.{'err' if code else 'notice'}" in said, said
        return said


@pytest.fixture
def notify(lab):
    return Notify(lab)


def role(fw):
    return fw.status()["role"]


def record(fw):
    """What is recorded: "takeover", "release" or ""."""
    path = fw.dir / "asked" / "last"
    return path.read_text().split()[0] if path.exists() else ""


def start(fw, group=USER):
    """A daemon with a user of its own."""
    fw.write_config(extra=f'user = "{USER}";')
    text = fw.config.read_text()
    fw.config.write_text(text.replace(f'socket = "{fw.socket}";',
                                      f'socket = "{fw.socket}"; group = "{group}";'))
    shutil.chown(fw.lab.key_file, USER)
    return fw.start_ctsyncd()


# -- who ---------------------------------------------------------------------------

WHO = [{}, {"user": USER}, {"user": OTHER, "group": USER}]


@pytest.mark.smoke
def test_everyone_who_may(lab, notify):
    """Root by hand, the daemon's user, another one with its group, in turn: nobody is in another's way."""
    fw1 = lab.fw1
    start(fw1)
    for who in [*WHO, *reversed(WHO)]:
        said = notify.run(fw1, "MASTER", **who)
        assert "takeover done" in said and role(fw1) == "active" and record(fw1) == "takeover", who
        for state in ("BACKUP", "FAULT", "STOP"):
            notify.run(fw1, state, **who)
            assert role(fw1) == "standby" and record(fw1) == "release", who
    assert [p.name for p in (fw1.dir / "asked").iterdir()] == ["last"]
    # And the same when nobody listens.
    fw1.stop_ctsyncd()
    for who in [*WHO, *reversed(WHO)]:
        notify.run(fw1, "MASTER", code=3, **who)
        assert record(fw1) == "takeover", who
        notify.run(fw1, "BACKUP", code=3, **who)
        assert record(fw1) == "release", who


@pytest.mark.parametrize("running", [True, False])
def test_somebody_else(lab, notify, running):
    """Neither told nor recorded, and the log says what to do."""
    fw1 = lab.fw1
    start(fw1)
    notify.run(fw1, "BACKUP")
    if not running:
        fw1.stop_ctsyncd()
    said = notify.run(fw1, "MASTER", code=3, user=OTHER)
    assert "NOT DONE, and not recorded either" in said and USER in said
    assert "script_user ctsync ctsync" in said
    assert record(fw1) == "release"
    if running:
        assert role(fw1) == "standby"


def test_no_program(lab, notify):
    (notify.dir / "ctsync").unlink()
    said = notify.run(lab.fw1, "MASTER", code=127)
    assert "is ctsync installed?" in said


def test_other_words(lab, notify):
    done = subprocess.run(notify.command(lab.fw1, "MASTER")[:-3], text=True, capture_output=True,
                          check=False)
    assert done.returncode == 2 and "usage" in done.stderr
    done = subprocess.run(notify.command(lab.fw1, "STARTING"), text=True, capture_output=True,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- while no daemon runs ----------------------------------------------------------------

@pytest.mark.smoke
def test_master_while_the_daemon_is_down(pair, notify):
    """A standby's daemon restarts while keepalived on the active node stops: it takes over."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 2000)
    wait_holds(fw2, 2000)
    fw2.stop_ctsyncd()
    said = notify.run(fw2, "MASTER", code=3)
    assert "not done yet, but recorded" in said and "is ctsyncd running" in said
    notify.run(fw1, "BACKUP")
    fw2.start_ctsyncd()
    assert role(fw2) == "active"
    assert "a takeover was asked for while ctsyncd did not run" in log(fw2)
    wait_for(lambda: len(kernel_table(fw2)) == 2000, 30, "fw2 to take over", 0.1)
    wait_for(fw2.ready, 30, "fw2 to be ready")
    assert not differences(kernel_table(fw1), kernel_table(fw2))
    assert role(fw1) == "standby"
    wait_equal(fw1)


@pytest.mark.smoke
def test_backup_while_the_daemon_is_down(pair, notify):
    fw1, fw2 = pair
    fw1.stop_ctsyncd()
    notify.run(fw1, "BACKUP", code=3)
    takeover(fw2)
    fw1.start_ctsyncd()
    assert role(fw1) == "standby" and role(fw2) == "active"
    assert "a release was asked for while ctsyncd did not run" in log(fw1)
    fw1.wait_ready()


def test_several_while_the_daemon_is_down(pair, notify):
    """The last one counts, also when it is not the last one to write."""
    fw1, _ = pair
    fw1.stop_ctsyncd()
    late = notify.start(fw1, "BACKUP", delay=1.0)
    notify.run(fw1, "BACKUP", code=3)
    notify.run(fw1, "MASTER", code=3)
    said = notify.end(late, 3)
    assert "a later request (takeover) stands" in said
    fw1.start_ctsyncd()
    assert role(fw1) == "active"


def test_daemon_that_cannot_be_reached(pair, notify):
    """Word that is left for a daemon that runs is found without its socket."""
    _, fw2 = pair
    away = fw2.socket.with_suffix(".away")
    fw2.socket.rename(away)
    said = notify.run(fw2, "MASTER", code=3)
    assert "recorded" in said
    away.rename(fw2.socket)
    wait_for(lambda: role(fw2) == "active", 5, "fw2 to find what was asked for")
    fw2.socket.rename(away)
    notify.run(fw2, "BACKUP", code=3)
    away.rename(fw2.socket)
    wait_for(lambda: role(fw2) == "standby", 5, "fw2 to find what was asked for")


def test_daemon_that_hangs(pair, notify):
    """It is said, after some seconds, and done when it goes on."""
    _, fw2 = pair
    fw2.daemon.send_signal(signal.SIGSTOP)
    try:
        said = notify.run(fw2, "MASTER", code=3)
    finally:
        fw2.daemon.send_signal(signal.SIGCONT)
    assert "did not answer within 10 s" in said and "not done yet, but recorded" in said
    wait_for(lambda: role(fw2) == "active", 5, "fw2 to find what was asked for")


# -- what was asked for last -----------------------------------------------------------------

@pytest.mark.smoke
@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "wrapped"])
@pytest.mark.parametrize("late, then, wanted", [("MASTER", "BACKUP", "standby"),
                                                ("BACKUP", "MASTER", "active")])
def test_late_script(lab, notify, late, then, wanted, wrapped):
    """A script that was started first and comes last brings what was asked for last."""
    fw1 = lab.fw1
    fw1.start_ctsyncd()
    notify.run(fw1, late)
    process = notify.start(fw1, late, delay=1.5, wrapped=wrapped)
    wait_for(lambda: "sleep\n" in [Path(f"/proc/{pid}/comm").read_text() for pid in fw1.pids()], 5,
             "the late one to be started")
    notify.run(fw1, then)
    assert role(fw1) == wanted
    said = notify.end(process)
    assert "a later request" in said and "stands" in said
    assert role(fw1) == wanted
    fw1.stop_ctsyncd()
    fw1.start_ctsyncd()
    assert role(fw1) == wanted


def test_late_by_hand(lab):
    """By hand it is a failure: whoever waits for a role to go on must not."""
    fw1 = lab.fw1
    fw1.start_ctsyncd()
    asker = subprocess.Popen(["sleep", "60"])
    try:
        wait_for(lambda: Path(f"/proc/{asker.pid}/comm").read_text() == "sleep\n", 5, "sleep to run")
        fw1.ctsync("release")
        done = fw1.ctsync("--json", "takeover", "--asked-by", asker.pid)
        assert '"later": "release"' in done.stdout and role(fw1) == "standby"
    finally:
        asker.kill()
        asker.wait()
    assert fw1.ctsync("takeover", "--asked-by", asker.pid, check=False).returncode == 2
    for wrong in ("0", "-1", "x", ""):
        assert fw1.ctsync("takeover", "--asked-by", wrong, check=False).returncode == 2
    assert fw1.ctsync("status", "--asked-by", os.getpid(), check=False).returncode == 2
    assert role(fw1) == "standby"


def test_release_in_the_middle_of_a_takeover(pair, notify):
    """Two scripts at a time: the one that was overtaken reports that, and not as an error."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", MANY)
    wait_holds(fw2, MANY, 60)
    process = notify.start(fw2, "MASTER")
    wait_for(lambda: fw2.kernel_count() > MANY // 50, 20, "the takeover to be at work", 0.002)
    notify.run(fw2, "BACKUP")
    assert role(fw2) == "standby"
    said = notify.end(process)
    if fw2.kernel_count() < MANY:
        assert "given up" in said
    assert role(fw2) == "standby" and record(fw2) == "release"
    # The same command by hand is a failure.
    assert role(fw1) == "active" and count(fw1, "local", "-p", "tcp") == MANY


# -- what lies there ------------------------------------------------------------------------------

def test_no_runtime_directory(lab, notify):
    """Root makes it, as the daemon will want it; others say that it is missing."""
    fw1 = lab.fw1
    fw1.dir.rmdir()
    said = notify.run(fw1, "MASTER", code=3, user=OTHER)
    assert "not recorded either" in said and f"{fw1.dir}/asked is missing" in said
    notify.run(fw1, "MASTER", code=3)
    assert record(fw1) == "takeover"
    start(fw1)
    assert role(fw1) == "active"
    for path, mode in ((fw1.dir, 0o755), (fw1.dir / "asked", 0o770)):
        assert path.owner() == USER and path.stat().st_mode & 0o7777 == mode
    notify.run(fw1, "BACKUP", user=USER)
    assert record(fw1) == "release"


@pytest.mark.parametrize("running", [True, False])
def test_symbolic_links(lab, notify, running):
    """Whoever may write there cannot have root write elsewhere."""
    fw1 = lab.fw1
    start(fw1)
    if not running:
        fw1.stop_ctsyncd()
    victim = lab.run_dir / "victim"
    victim.write_text("precious\n")
    last = fw1.dir / "asked" / "last"
    last.unlink(missing_ok=True)
    last.symlink_to(victim)
    notify.run(fw1, "MASTER", code=0 if running else 3)
    assert not last.is_symlink() and record(fw1) == "takeover"
    assert victim.read_text() == "precious\n" and victim.owner() == "root"

    elsewhere = lab.run_dir / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(last.parent)
    last.parent.symlink_to(elsewhere)
    said = notify.run(fw1, "BACKUP", code=0 if running else 3)
    assert "symbolic link" in log(fw1) if running else "symbolic link" in said
    assert not list(elsewhere.iterdir())
    if running:
        # Done all the same, with the daemon's memory in place of the record.
        assert "warning:" in said and role(fw1) == "standby"
    else:
        # The daemon starts without, and says so.
        start(fw1)
        wait_log(fw1, "what is asked for while ctsyncd does not run will be lost")
        assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("line, expected", [
    ("takeover 5 00000000-0000-4000-8000-000000000000\n", None),     # of an earlier boot
    ("take over, please\n", "makes no sense"),
    ("takeover\n" * 1000, "makes no sense"),
], ids=["boot", "words", "long"])
def test_record_that_does_not_count(lab, notify, line, expected):
    fw1 = lab.fw1
    start(fw1)
    fw1.stop_ctsyncd()
    (fw1.dir / "asked" / "last").write_text(line)
    fw1.start_ctsyncd()
    assert role(fw1) == "standby"
    if expected:
        assert expected in log(fw1)
        time.sleep(2.5)
        assert log(fw1).count(expected) == 1, "once is enough"
    notify.run(fw1, "MASTER", user=USER)
    assert role(fw1) == "active"


@pytest.mark.parametrize("make", ["symlink_to", "hardlink_to"])
def test_lock_that_is_another_file(lab, make):
    """What root gives to the daemon's user is a lock and nothing else."""
    fw1 = lab.fw1
    victim = lab.run_dir / "victim"
    victim.write_text("")
    getattr(fw1.dir / "lock", make)(victim)
    fw1.write_config(extra=f'user = "{USER}";')
    daemon = fw1.start_ctsyncd(wait=False)
    assert daemon.wait(timeout=20) == 1 and f"{fw1.dir}/lock" in log(fw1)
    assert victim.owner() == "root"
