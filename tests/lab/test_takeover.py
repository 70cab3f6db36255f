# SPDX-License-Identifier: GPL-3.0-or-later
"""commit, takeover and release, in kernels' tables."""

import time

import pytest

from lab import Traffic, passed, wait_for
from tools import (SRC_NAT, Background, configure, count, ctgen, differences, kernel_table,
                   liberal, log, peer, stats, status_bits, takeover, tcp_flags, wait_equal, wait_holds)

MANY = 200000


def test_many_flows(pair):
    """200,000 flows: none is missing, none differs, all are translated; the daemon answers meanwhile."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", MANY)
    wait_holds(fw2, MANY)
    before = kernel_table(fw1)
    assert len(before) == MANY

    def ask(stop):
        answered = []
        while not stop.is_set():
            began = time.monotonic()
            if fw2.status() is not None:
                answered.append((began, time.monotonic()))
        return answered

    asking = Background(ask)
    began = time.monotonic()
    answer = takeover(fw2)
    ended = time.monotonic()
    answered = asking.join()
    print(f"{answer['created']} flows written in {answer['elapsed_ms']} ms")

    assert answer["ok"] and answer["failed"] == 0 and answer["failures"] == []
    assert answer["created"] >= MANY and answer["adopted"] == answer["created"]
    assert answer["role"] == "active"
    assert answer["basis"].startswith("equal to fw1")
    after = kernel_table(fw2)
    assert not differences(before, after)
    assert all(status_bits(value) & SRC_NAT for value in after.values())
    # Asked and answered while it was at work, again and again.
    meanwhile = [t for t in answered if t[0] > began and t[1] < ended]
    assert len(meanwhile) >= 3, f"status was answered {len(meanwhile)} times in {ended - began:.1f} s"
    moments = [began, *(t[1] for t in meanwhile), ended]
    longest = max(b - a for a, b in zip(moments, moments[1:]))
    print(f"longest time without an answer of {ended - began:.1f} s: {longest * 1000:.0f} ms")
    assert longest < max(1.0, (ended - began) / 2)
    # Adopted at once: they are replicated onwards.
    assert count(fw2, "local") >= MANY
    wait_holds(fw1, MANY)
    assert stats(fw2)["kernel"]["dumps_total"] <= 3


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["tcp", "udp", "tcp6-snat", "dnat"])
def test_kinds(pair, kind):
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 500, "-k", kind, "-m", 77)
    wait_holds(fw2, 500)
    before = fw1.run(fw1.lab.bin("ctlab-ctgen"), "list").stdout
    takeover(fw2)
    after = fw2.run(fw2.lab.bin("ctlab-ctgen"), "list").stdout
    flows = {line for line in before.splitlines() if "mark=77" in line}
    assert len(flows) == 500
    assert flows == {line for line in after.splitlines() if "mark=77" in line}


@pytest.mark.smoke
def test_twice(pair):
    """The second takeover finds everything done."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 2000)
    wait_holds(fw2, 2000)
    first = takeover(fw2)
    table = kernel_table(fw2)
    second = takeover(fw2)
    assert first["created"] >= 2000 and first["failed"] == 0
    assert second["created"] == 0 and second["failed"] == 0 and second["ok"]
    assert second["role"] == "active"
    assert not differences(table, kernel_table(fw2))


def test_twice_after_death(pair):
    """The same when the peer is gone, and its flows still stand in our table."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 2000)
    wait_holds(fw2, 2000)
    fw1.kill()
    assert takeover(fw2)["created"] >= 2000
    table = kernel_table(fw2)
    assert len(table) == 2000
    second = takeover(fw2)
    assert second["created"] == 0 and second["failed"] == 0 and second["ok"]
    assert not differences(table, kernel_table(fw2))


def test_two_at_once(pair):
    """Two operators, one work."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 20000)
    wait_holds(fw2, 20000)
    other = Background(lambda _stop: takeover(fw2))
    answer = takeover(fw2)
    answers = [answer, other.join()]
    assert all(a["ok"] and a["failed"] == 0 for a in answers)
    # The second one begins anew, and finds some of the flows written; both are told the result.
    assert all(a["created"] + a["updated"] + a["existing"] >= 20000 for a in answers)
    assert len(kernel_table(fw2)) == 20000


def test_alone(lab):
    """Without a peer: at once, and it says what it is based on."""
    fw1 = lab.fw1
    configure(fw1, boot_wait_s=1)
    fw1.start_ctsyncd()
    assert fw1.status()["role"] == "standby"
    wait_for(fw1.ready, 10, "fw1 to be ready without a peer")
    assert "alone" in fw1.status()["ready"]["reason"]
    answer = takeover(fw1)
    assert answer["ok"] and answer["created"] == 0 and answer["role"] == "active"
    assert "fw2 was never seen" in answer["basis"]
    assert fw1.status()["role"] == "active" and fw1.ready()


def test_not_ready_before_boot_wait(lab):
    configure(lab.fw1, boot_wait_s=3600)
    lab.fw1.start_ctsyncd()
    done = lab.fw1.ctsync("ready", check=False)
    assert done.returncode == 1 and done.stdout.startswith("not ready: ")


def test_in_the_middle_of_a_synchronisation(lab):
    """Half of the flows are there: they are taken, and the rest with the next takeover."""
    fw1, fw2 = lab.fw1, lab.fw2
    flows = 60000
    fw1.start_ctsyncd()
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", flows)
    # Narrow enough that it takes seconds.
    fw1.run("tc", "qdisc", "add", "dev", "sync0", "root", "tbf", "rate", "8mbit", "burst", "16kb",
            "limit", "1mb")
    fw2.start_ctsyncd()
    wait_for(lambda: count(fw2, "remote") > 1000, 20, "the first flows", 0.005)
    half = takeover(fw2)
    assert half["ok"] and half["failed"] == 0
    assert "NOT verified" in half["basis"]
    assert 1000 <= half["created"] < flows, "the synchronisation was over too soon for this test"
    assert len(kernel_table(fw2)) >= 1000
    fw1.run("tc", "qdisc", "del", "dev", "sync0", "root")
    wait_holds(fw2, flows)
    rest = takeover(fw2)
    assert rest["ok"] and rest["failed"] == 0
    assert not differences(kernel_table(fw1), kernel_table(fw2))


@pytest.mark.smoke
def test_commit_on_a_standby(pair):
    """The flows are in its kernel, and it stays standby."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    answer = takeover(fw2, "commit")
    assert answer["ok"] and answer["created"] >= 1000 and answer["role"] == "standby"
    assert fw2.status()["role"] == "standby" and fw1.status()["role"] == "active"
    assert not differences(kernel_table(fw1), kernel_table(fw2))


@pytest.mark.smoke
def test_release_and_role(pair):
    """takeover on the one, release on the other; the roles survive a restart of the daemons."""
    fw1, fw2 = pair
    takeover(fw2)
    done = fw1.ctsync("release")
    assert "role:     standby" in done.stdout
    for fw in (fw1, fw2):
        assert fw.stop_ctsyncd() == 0
    for fw in (fw1, fw2):
        fw.start_ctsyncd()
    assert fw1.status()["role"] == "standby" and fw2.status()["role"] == "active"
    fw1.wait_ready()


def test_release_leaves_no_zombies(lab):
    """What ends on the new active node disappears from the old one's kernel too."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        configure(fw, takeover_keys="purge_s = 2;")
        fw.start_ctsyncd()
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    takeover(fw2)
    fw1.ctsync("release")
    wait_equal(fw1)
    ctgen(fw2, "delete", "-n", 400)
    wait_for(lambda: len(kernel_table(fw1)) == 600, 30, "the flows to end on fw1 too", 0.2)
    wait_equal(fw2)
    assert not differences(kernel_table(fw2), kernel_table(fw1))
    assert stats(fw1)["kernel"]["purged_total"] == 400
    # And the way back brings none of them back.
    takeover(fw1)
    assert len(kernel_table(fw1)) == 600


@pytest.mark.parametrize("detection", [1, 2.5])
def test_late_takeover(lab, detection):
    """It takes time until somebody decides that fw1 is dead; both ends retransmit meanwhile.

    What comes first through fw2 is old data then, not the acknowledgement of what fw1 had let through:
    with strict window tracking connections die of that.
    """
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd()
    fw1.ctsync("takeover")
    traffic = Traffic(lab, connections=600)
    traffic.start()
    time.sleep(2)           # a queue builds up behind fw1
    fw2.wait_ready()
    fw1.kill()
    time.sleep(detection)
    answer = takeover(fw2)
    assert "death of fw1" in answer["basis"] or "equal to fw1" in answer["basis"]
    fw2.take_addresses()
    traffic.wait_progress(60)
    assert passed(traffic.finish())
    assert fw2.drops() == {"invalid": 0, "unknown": 0}


def test_windows_become_strict_again(lab):
    """Liberal after the takeover, strict when the kernel has relearned the windows."""
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd()
    fw1.ctsync("takeover")
    traffic = Traffic(lab, connections=60, udp=0, ping=0)
    traffic.start()
    fw2.wait_ready()
    assert liberal(fw1) == 0
    fw1.kill()
    takeover(fw2)
    assert liberal(fw2) >= 60
    fw2.take_addresses()
    traffic.wait_progress()
    wait_for(lambda: liberal(fw2) == 0, 60, "the kernel to track strictly again", 0.2)
    assert len(tcp_flags(fw2)) >= 60
    wait_for(lambda: fw2.status()["kernel"]["liberal"] == 0, 60, "status to say so", 0.2)
    assert stats(fw2)["kernel"]["writes_tightened_total"] >= 60
    traffic.wait_progress()
    assert passed(traffic.finish())
    assert fw2.drops()["invalid"] == 0


def test_silent_flows_stay_liberal(pair):
    """No packet, no windows: counted in status."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 300)
    wait_holds(fw2, 300)
    takeover(fw2)
    wait_for(lambda: fw2.status()["kernel"]["liberal"] == 300, 60, "status to count them", 0.2)
    assert liberal(fw2) == 300


def test_failures_are_told(pair):
    """A flow whose translated port is taken on the new node: counted, explained, the rest is fine."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 100)
    wait_holds(fw2, 100)
    # Entry 0 has 198.18.0.1:443 > 203.0.113.1:1024 as its reply; let another flow have that.
    fw2.run("conntrack", "-I", "-p", "tcp", "-s", "100.127.255.254", "-d", "198.18.0.1", "--sport",
            "9", "--dport", "443", "--src-nat", "203.0.113.1:1024", "--state", "ESTABLISHED", "-t",
            "600", "-u", "SEEN_REPLY,ASSURED")
    answer = takeover(fw2, check=False)
    assert answer["code"] == 1 and not answer["ok"]
    assert answer["failed"] == 1 and answer["created"] == 99 + answer["flows"] - 100
    (failure,) = answer["failures"]
    assert failure["count"] == 1 and "tuple" in failure["reason"] and "198.18.0.1" in failure["example"]
    text = fw2.ctsync("takeover", check=False)
    assert text.returncode == 1 and "NOT COMPLETE" in text.stdout
    assert "1 refused" in log(fw2) and "198.18.0.1" in log(fw2)
    assert peer(fw2)["in_sync"]
