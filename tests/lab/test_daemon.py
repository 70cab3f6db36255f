# SPDX-License-Identifier: GPL-3.0-or-later
"""ctsyncd as a process: signals, reload, -t, -p, and what it leaves alone."""

import json
import signal
import socket

import pytest

from lab import wait_for
from tools import (count, ctgen, kernel_table, log, peer, stats, takeover, wait_equal, wait_holds,
                   wait_log, wait_proof)


@pytest.mark.smoke
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly(pair, signum):
    """Exit 0, socket gone, entries still in the kernel, and the peer knows that it was on purpose."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    assert fw1.stop_ctsyncd(signum) == 0
    assert not fw1.socket.exists()
    assert "stopping" in log(fw1) and log(fw1).rstrip().endswith("stopped")
    assert len(kernel_table(fw1)) == 1000
    wait_log(fw2, "fw1 shuts down")
    wait_for(lambda: peer(fw2)["state"] == "lost", 20, "fw2 to notice")
    assert fw2.ready() and count(fw2, "remote") >= 1000
    # What was under way when the signal came arrived.
    fw1.start_ctsyncd()
    fw2.wait_ready()
    wait_equal(fw2)


def test_last_changes_arrive(pair):
    """A change right before SIGTERM is sent before the daemon ends."""
    fw1, fw2 = pair
    for i in range(5):
        ctgen(fw1, "create", "-o", i, "-n", 1)
        wait_for(lambda n=i + 1: count(fw1, "local", "-p", "tcp") == n, 5, "fw1 to see it", 0)
        assert fw1.stop_ctsyncd() == 0
        wait_for(lambda n=i + 1: count(fw2, "remote", "-p", "tcp") == n, 5, "fw2 to have got it")
        fw1.start_ctsyncd()
        fw2.wait_ready()


def test_sighup(pair):
    """Filter and log level change at once; what cannot change is told; a mistake changes nothing."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 100)
    ctgen(fw1, "create", "-k", "udp", "-n", 100)
    wait_holds(fw2, 200)
    fw1.write_config(extra='filter = { protocols = { except = ( "udp" ); }; };\nlog = { level = "debug"; };')
    fw1.daemon.send_signal(signal.SIGHUP)
    wait_log(fw1, "reload: keys, filter and log level are in use")
    wait_for(lambda: count(fw1, "local", "-p", "udp") == 0, 20, "UDP to be left out")
    wait_equal(fw2)
    assert count(fw2, "remote", "-p", "udp") == 0 and count(fw2, "remote", "-p", "tcp") == 100
    assert len(kernel_table(fw1)) == 200, "the kernel is not touched"

    fw1.write_config(extra="filter = { protocol = 6; };")
    fw1.daemon.send_signal(signal.SIGHUP)
    wait_log(fw1, f"err: reload: {fw1.config}:")
    ctgen(fw1, "create", "-k", "udp", "-o", 500, "-n", 10)
    ctgen(fw1, "create", "-o", 500, "-n", 10)
    wait_for(lambda: count(fw2, "remote", "-p", "tcp") == 110, 20, "new flows")
    assert count(fw1, "local", "-p", "udp") == 0, "the filter in use stays"

    fw1.write_config()
    fw1.daemon.send_signal(signal.SIGHUP)
    wait_for(lambda: count(fw2, "remote", "-p", "udp") == 110, 20, "UDP to be back")
    wait_equal(fw2)
    assert fw1.status()["role"] == "active"


def test_change_of_keys(pair, lab):
    """A new key while it runs: added, then first, then alone; never out of sync, nothing sent again."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    old = [line for line in lab.key_file.read_text().splitlines() if line and line[0] != "#"][0]
    path = lab.run_dir / "second"
    fw1.ctsync("keygen", path, 2)
    new = [line for line in path.read_text().splitlines() if line and line[0] != "#"][0]
    before = stats(fw1)["local"]["full_syncs_total"]
    for number, keys in enumerate(([old, new], [new, old], [new])):
        lab.key_file.write_text("\n".join(keys) + "\n")
        for fw in (fw1, fw2):
            fw.daemon.send_signal(signal.SIGHUP)
            wait_for(lambda f=fw, n=number + 1: log(f).count("reload: keys") == n, 10, "the reload")
        ctgen(fw1, "create", "-o", 1000 + 100 * number, "-n", 100)
        wait_holds(fw2, 1100 + 100 * number)
        assert peer(fw1)["state"] == peer(fw2)["state"] == "up"
    assert stats(fw1)["local"]["full_syncs_total"] == before
    assert stats(fw2)["peers"]["fw1"]["epochs_total"] == 1
    for fw in (fw1, fw2):
        rejected = stats(fw)["rejected"]
        assert rejected["bad_tag_total"] == rejected["unknown_key_total"] == 0


@pytest.mark.smoke
def test_check_and_print(lab):
    """-t says that it is fine; what -p prints is a configuration, and means the same."""
    fw1 = lab.fw1
    path = fw1.write_config(extra='kernel = { event_buffer = "8M"; };')
    daemon = lab.bin("ctsyncd")
    done = fw1.run(daemon, "-t", "-c", path)
    assert "fine" in done.stdout and done.stderr == ""
    printed = fw1.run(daemon, "-p", "-c", path).stdout
    assert "event_buffer" in printed and f'"{fw1.dir}"' in printed and "fw2" in printed
    again = lab.run_dir / "printed.conf"
    again.write_text(printed)
    assert fw1.run(daemon, "-p", "-c", again).stdout == printed
    fw1.run(daemon, "-t", "-c", again)
    assert not fw1.socket.exists(), "it only looked"
    assert fw1.run(daemon, "-V").stdout.startswith("ctsyncd ")
    assert fw1.run(daemon, "-x", check=False).returncode == 2
    assert fw1.run(daemon, "more", check=False).returncode == 2
    missing = fw1.run(daemon, "-c", "/nonexistent.conf", check=False)
    assert missing.returncode == 1 and "/nonexistent.conf" in missing.stderr
    # And with it, it runs.
    fw1.config.write_text(printed)
    fw1.start_ctsyncd()


def test_service_manager(lab):
    """READY=1 when it can be talked to, a status, RELOADING=1 and READY=1, STOPPING=1."""
    fw1 = lab.fw1
    fw1.write_config()
    path = lab.run_dir / "notify"
    said = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        path.chmod(0o777)
        sock.settimeout(0.05)

        def heard(word):
            try:
                while True:
                    said.extend(sock.recv(4096).decode().splitlines())
            except TimeoutError:
                pass
            return word in "\n".join(said)
        fw1.daemon = fw1.spawn("env", f"NOTIFY_SOCKET={path}", lab.bin("ctsyncd"), "-c", fw1.config,
                               log="fw1-ctsyncd.log")
        wait_for(lambda: heard("READY=1"), 10, "READY=1")
        assert fw1.status() is not None
        wait_for(lambda: heard("STATUS=standby"), 10, "a status")
        said.clear()
        fw1.daemon.send_signal(signal.SIGHUP)
        wait_for(lambda: heard("RELOADING=1") and heard("READY=1"), 10, "the reload")
        said.clear()
        assert fw1.stop_ctsyncd() == 0
        wait_for(lambda: heard("STOPPING=1"), 10, "STOPPING=1")


def test_flush(pair):
    """local and remote are read again; kernel deletes what the filter selects, and only that."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 3000)
    wait_holds(fw2, 3000)
    fw1.ctsync("flush", "local")
    wait_equal(fw2)
    assert count(fw1, "local", "-p", "tcp") == 3000
    fw2.ctsync("flush", "remote")
    wait_equal(fw2)
    assert count(fw2, "remote", "-p", "tcp") == 3000
    takeover(fw2)
    fw1.ctsync("release")
    fw1.run("ping", "-c", "1", "-W", "2", "10.1.0.10")
    fw1.ctsync("flush", "kernel")
    wait_for(lambda: len(kernel_table(fw1)) == 0 and count(fw1, "local", "-p", "tcp") == 0, 20,
             "fw1's entries to go")
    assert "dport=3790" in fw1.run("conntrack", "-L").stdout, "what the filter leaves out stays"
    wait_proof(fw2)
    assert count(fw2, "remote", "-p", "tcp") == 0
    assert len(kernel_table(fw2)) == 3000, "on a standby it ends nothing"
    # On the active node it does.
    takeover(fw1)
    fw2.ctsync("release")
    fw1.ctsync("flush", "kernel")
    wait_for(lambda: len(kernel_table(fw1)) == 0, 20, "fw1's entries to go")
    wait_proof(fw1)
    assert takeover(fw1)["ended"] >= 3000
    assert len(kernel_table(fw1)) == 0


def test_forget(lab):
    """Refused while the peer is there; then it is as if it had never been, and comes back as a new one."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd(boot_wait_s=2)
    fw1.ctsync("takeover")
    fw2.wait_ready()
    ctgen(fw1, "create", "-n", 3000)
    wait_holds(fw2, 3000)
    done = fw2.ctsync("forget", "fw1", check=False)
    assert done.returncode == 1 and "stop ctsyncd" in done.stderr, done
    assert count(fw2, "remote", "-p", "tcp") == 3000
    fw1.stop_ctsyncd(signal.SIGKILL)
    wait_for(lambda: fw2.status()["peers"][0]["state"] == "lost", 10, "fw2 to miss fw1")
    done = fw2.ctsync("--json", "forget", "fw1")
    assert json.loads(done.stdout)["flows"] >= 3000
    (peer,) = fw2.status()["peers"]
    assert (peer["state"], peer["flows"], peer["verified_ms"], peer["term"]) == ("lost", 0, None, None)
    assert count(fw2, "remote") == 0
    wait_for(lambda: fw2.status()["ready"]["ok"], 60, "fw2 to be ready alone")
    assert "never seen" in fw2.status()["ready"]["reason"]
    fw1.start_ctsyncd()
    wait_holds(fw2, 3000)
    wait_equal(fw2)


def test_resync_and_log_level(pair):
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 3000)
    wait_holds(fw2, 3000)
    before = stats(fw2)["kernel"]["dumps_total"]
    assert fw2.ctsync("resync").returncode == 0
    wait_for(lambda: stats(fw2)["kernel"]["dumps_total"] > before, 10, "the kernel to be read")
    wait_equal(fw2)
    fw2.ctsync("log", "debug")
    fw2.ctsync("resync")
    wait_log(fw2, " debug: ")


def test_changes_behind_our_back(lab):
    """What no event told is found by the audit: entries that came and went while events were off."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd(extra="kernel = { audit_s = 1; };")
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    fw1.sysctl(net__netfilter__nf_conntrack_events=0)
    ctgen(fw1, "create", "-o", 1000, "-n", 200)
    fw1.sysctl(net__netfilter__nf_conntrack_events=1)
    wait_for(lambda: count(fw2, "remote", "-p", "tcp") == 1200, 30, "the audit to find the new ones")
    ctgen(fw1, "delete", "-o", 900, "-n", 300)
    wait_for(lambda: count(fw2, "remote", "-p", "tcp") == 900, 30, "the audit to miss the old ones")
    wait_equal(fw2)


def test_overrun(lab):
    """A burst that the event buffer cannot hold while the daemon stands still: equal all the same."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd(extra='kernel = { event_buffer = "64K"; };')
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    fw1.daemon.send_signal(signal.SIGSTOP)
    ctgen(fw1, "create", "-o", 1000, "-n", 20000)
    ctgen(fw1, "delete", "-o", 500, "-n", 1000)
    fw1.daemon.send_signal(signal.SIGCONT)
    wait_for(lambda: fw1.status()["kernel"]["overruns"] > 0, 20, "the overrun to be counted")
    fw2.wait_ready()
    wait_for(lambda: count(fw2, "remote", "-p", "tcp") == 20000, 30, "all of them, and no more")
    wait_equal(fw2)
    assert "raise kernel.event_buffer" in log(fw1)


def test_flow_limit(lab):
    """A table that is full refuses, counts and says so; what it holds is right."""
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.start_ctsyncd()
    fw2.start_ctsyncd(extra="limits = { flows = 1000; };")
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 3000)
    wait_for(lambda: stats(fw2)["peers"]["fw1"]["no_room_total"] > 0, 20, "fw2 to refuse")
    assert count(fw2, "remote") <= 1000
    assert not fw2.in_sync() and not fw2.ready(), "not equal, and it does not claim to be"
    wait_for(lambda: peer(fw1)["peer_full"], 20, "fw1 to be told")
    ctgen(fw1, "delete", "-n", 2500)
    wait_for(lambda: fw2.in_sync() and count(fw2, "remote", "-p", "tcp") == 500, 60, "room for all")
    wait_equal(fw2)
