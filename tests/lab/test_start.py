# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a daemon from starting, or from reaching its peer, and how it says so."""

import contextlib
import re
import socket

import pytest

from lab import in_netns, wait_for
from tools import PORT, count, ctgen, log, peer, stats, wait_log


def refused(fw):
    """Start a daemon that must not start; what it logged."""
    daemon = fw.start_ctsyncd(wait=False)
    assert daemon.wait(timeout=20) == 1, log(fw)
    fw.processes.remove(daemon)
    assert not fw.socket.exists()
    return log(fw)


def keygen(fw, name, number=1):
    path = fw.lab.run_dir / name
    fw.ctsync("keygen", path, number)
    return path


@pytest.mark.smoke
@pytest.mark.parametrize("number, reason", [(1, "bad_tag"), (2, "unknown_key")])
def test_wrong_key(lab, number, reason):
    """Never up, counted by reason, and the log says what to look at."""
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.start_ctsyncd()
    fw2.start_ctsyncd(key_file=keygen(fw2, "other-key", number))
    ctgen(fw1, "create", "-n", 100)
    for fw in (fw1, fw2):
        wait_for(lambda f=fw: stats(f)["rejected"][f"{reason}_total"] >= 10, 20,
                 f"{fw.name} to refuse")
        assert peer(fw)["state"] == "lost" and not peer(fw)["in_sync"]
        assert stats(fw)["peers"][fw.peer.name]["epochs_total"] == 0
        assert fw.status()["links"][0]["rejected"] >= 10
        assert re.search(r"warning: .*refused.*\bkey", log(fw)), log(fw)
        assert log(fw).count("refused") < 20        # the network does not fill the log
    assert count(fw2, "remote") == 0
    # The right one helps without a restart.
    (lab.run_dir / "other-key").write_text(lab.key_file.read_text())
    fw2.ctsync("reload")
    wait_for(fw2.in_sync, 20, "fw2 to be in sync with the right key")


def test_other_cluster(lab):
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.start_ctsyncd()
    path = fw2.write_config()
    path.write_text(path.read_text().replace('cluster = "lab"', 'cluster = "other"'))
    fw2.start_ctsyncd()
    wait_for(lambda: stats(fw1)["rejected"]["foreign_cluster_total"] >= 3, 20, "fw1 to refuse")
    assert peer(fw1)["state"] == "lost"


def test_own_name(lab):
    """A peer that was given our name by mistake."""
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.start_ctsyncd()
    path = fw2.write_config()
    path.write_text(path.read_text().replace('node = "fw2"', 'node = "fw1"')
                    .replace('name = "fw1"', 'name = "fw2"'))
    fw2.start_ctsyncd()
    wait_for(lambda: stats(fw1)["rejected"]["own_name_total"] >= 3, 20, "fw1 to refuse")
    assert peer(fw1)["state"] == "lost"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_key_file_for_all_to_read(lab, mode):
    lab.key_file.chmod(mode)
    said = refused(lab.fw1)
    assert str(lab.key_file) in said and "chmod 600" in said


def test_no_key_file(lab):
    lab.key_file.unlink()
    said = refused(lab.fw1)
    assert str(lab.key_file) in said and "keygen" in said


def test_missing_interface(lab):
    """It says so, runs without that link, and uses it when it comes."""
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.ip("link set sync0 down", "link set sync0 name later0")
    fw1.start_ctsyncd()
    wait_log(fw1, "there is no interface sync0: create it or correct")
    assert fw1.status()["links"][0]["state"] == "down"
    assert peer(fw1)["state"] == "lost"
    fw2.start_ctsyncd()
    fw1.ip("link set later0 name sync0", "link set sync0 up")
    wait_for(lambda: fw1.in_sync() and fw2.in_sync(), 30, "both to be in sync")


def test_missing_address(lab):
    """The same with the address of the link."""
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.ip(f"addr del {fw1.sync_address}/24 dev sync0")
    fw1.start_ctsyncd()
    wait_log(fw1, f"address {fw1.sync_address} is not on this machine")
    fw2.start_ctsyncd()
    fw1.ip(f"addr add {fw1.sync_address}/24 dev sync0")
    wait_for(lambda: fw1.in_sync() and fw2.in_sync(), 30, "both to be in sync")


def test_occupied_port(lab):
    fw1 = lab.fw1

    def occupy():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((fw1.sync_address, PORT))
        return sock
    with contextlib.closing(in_netns(fw1.ns, occupy)):
        said = refused(fw1)
    assert str(PORT) in said and "in use" in said
    fw1.start_ctsyncd()


@pytest.mark.smoke
def test_two_with_one_runtime_directory(lab):
    fw1 = lab.fw1
    first = fw1.start_ctsyncd()
    fw1.write_config()
    second = fw1.spawn(lab.bin("ctsyncd"), "-c", fw1.config, log="second.log")
    assert second.wait(timeout=20) == 1
    said = (lab.run_dir / "second.log").read_text()
    assert "another ctsyncd runs" in said and str(fw1.dir) in said
    assert first.poll() is None and fw1.status() is not None


def test_two_with_one_socket(lab):
    """Two runtime directories, one control socket: the second one does not take it over."""
    fw1 = lab.fw1
    fw1.start_ctsyncd()
    other = lab.run_dir / "other"
    text = fw1.config.read_text().replace(f'"{fw1.dir}"', f'"{other}"').replace("3790", "3791")
    (lab.run_dir / "other.conf").write_text(text)
    second = fw1.spawn(lab.bin("ctsyncd"), "-c", lab.run_dir / "other.conf", log="second.log")
    assert second.wait(timeout=20) == 1
    assert str(fw1.socket) in (lab.run_dir / "second.log").read_text()
    assert fw1.status()["node"] == "fw1"


@pytest.mark.parametrize("line, expected", [
    ("kernle = { audit_s = 3; };", "kernle"),
    ("kernel = { audits = 3; };", "audits"),
    ("kernel = { audit_s = \"often\"; };", "audit_s"),
    ("kernel = { audit_s = 1000000; };", "audit_s"),
])
def test_wrong_configuration(lab, line, expected):
    """File, line and what is wrong; exit 1; the same with -t."""
    fw1 = lab.fw1
    fw1.write_config(extra=line)
    number = fw1.config.read_text().splitlines().index(line) + 1
    said = refused(fw1)
    assert f"{fw1.config}:{number}: " in said and expected in said
    checked = fw1.run(lab.bin("ctsyncd"), "-t", "-c", fw1.config, check=False)
    assert checked.returncode == 1 and f"{fw1.config}:{number}: " in checked.stderr


def test_runtime_directory_that_cannot_be_made(lab):
    fw1 = lab.fw1
    path = fw1.write_config()
    path.write_text(path.read_text().replace(f'"{fw1.dir}"', '"/proc/none/ctsyncd"'))
    said = refused(fw1)
    assert "/proc/none/ctsyncd" in said and "runtime_dir" in said
