# SPDX-License-Identifier: GPL-3.0-or-later
"""The local table is what the kernel has: overruns, silent flows, floods of ends, a hash table that is
resized, addresses that go and take masqueraded flows along; and `ctsync verify`, which says so."""

import json
import signal
from pathlib import Path

import pytest

from lab import Traffic, passed, wait_for
from tools import (Background, count, ctgen, kernel_table, listed, stats, takeover, wait_equal,
                   wait_holds)

FLOWS = 5000
GENERATED = ("-s", "100.64.0.0/10")
BUCKETS = Path("/proc/sys/net/netfilter/nf_conntrack_buckets")


def start(lab, extra=""):
    """Both daemons, fw1 active, fw2 equal."""
    for fw in (lab.fw1, lab.fw2):
        fw.start_ctsyncd(extra=extra)
    lab.fw1.ctsync("takeover")
    lab.fw2.wait_ready()
    return lab.fw1, lab.fw2


def table(fw, which):
    """The generated flows of a table: {tuples: what the replication knows of them}."""
    flows = json.loads(fw.ctsync("show", which, "-o", "json", *GENERATED, timeout=120).stdout)
    return {json.dumps([f["proto"], f["orig"], f["reply"], f.get("zone")]):
            (f["mark"], f.get("state"), "assured" in f["status"], "src_nat" in f["status"])
            for f in flows}


def is_true(fw):
    """Nothing waits to be read, and the local table is what the kernel has."""
    return table(fw, "local") == table(fw, "kernel")


def wait_true(fw, timeout=30):
    wait_for(lambda: is_true(fw), timeout, f"{fw.name}: the local table to be what the kernel has", 0.2)


def verify(fw):
    """(exit code, answer, {what is wrong: number of flows listed})"""
    done = fw.ctsync("--json", "verify", check=False, timeout=120)
    answer = json.loads(done.stdout)
    wrong = {}
    for flow in answer["differing"]:
        wrong[flow["wrong"]] = wrong.get(flow["wrong"], 0) + 1
    return done.returncode, answer, wrong


def wait_verified(fw, timeout=30):
    """Until all is equal: what has yet to be found is found by the verification itself."""
    wait_for(lambda: verify(fw)[0] == 0, timeout, f"{fw.name}: ctsync verify to be content", 0.1)


# -- verify -----------------------------------------------------------------------------

@pytest.mark.smoke
@pytest.mark.usefixtures("read_only")
def test_verify(pair):
    """What happened without an event is found, named, repaired, and told to the peer."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    wait_holds(fw2, FLOWS)
    for fw in pair:
        code, answer, wrong = verify(fw)
        assert (code, wrong) == (0, {}), answer
        assert answer["ok"] and answer["local"]["state"] == answer["peers"][0]["state"] == "equal"
    assert verify(fw1)[1]["local"]["flows"] >= FLOWS

    # Entries that are made while events are off never have any.
    fw1.sysctl(net__netfilter__nf_conntrack_events=0)
    ctgen(fw1, "create", "-o", FLOWS, "-n", 1500)
    assert count(fw1, "local", *GENERATED) == FLOWS
    done = fw1.ctsync("verify", check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert sum(line.startswith("local: missing here: ipv4     2 tcp ") for line in lines) == 1000, "all are counted, " \
        "the first thousand is listed"
    assert "DIFFERENT from the kernel: 1500 missing here, 0 missing in the kernel, 0 changed" in done.stdout
    assert fw1.ctsync("verify").stdout.startswith("local: ")

    ctgen(fw1, "update", "-o", FLOWS, "-n", 20, "-m", 9)
    ctgen(fw1, "delete", "-o", FLOWS + 20, "-n", 30)
    code, answer, wrong = verify(fw1)
    assert code == 1 and not answer["ok"] and answer["local"]["state"] == "different"
    assert wrong == {"changed, here": 20, "changed, in the kernel": 20, "missing in the kernel": 30}
    assert verify(fw1)[0] == 0
    assert is_true(fw1)
    fw1.sysctl(net__netfilter__nf_conntrack_events=1)
    wait_equal(fw2)
    assert count(fw2, "remote", "--mark", "9") == 20
    assert verify(fw2)[0] == 0


def spoil(pid, old, new):
    """Replace bytes in the writable memory of a process; the number of places."""
    places = 0
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, flags, *_ = line.split()
            if not flags.startswith("rw"):
                continue
            first, last = (int(x, 16) for x in span.split("-"))
            memory.seek(first)
            data, at = memory.read(last - first) or b"", -1
            while (at := data.find(old, at + 1)) >= 0:
                memory.seek(first + at)
                memory.write(new)
                places += 1
    return places


def test_memory_that_rots(pair):
    """A flow that changes in the standby's memory is found, named, and told again; nothing else is."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", FLOWS)
    ctgen(fw1, "update", "-o", 77, "-n", 1, "-m", 0x5aa5c33c)
    wait_holds(fw2, FLOWS)
    wait_equal(fw2)
    assert count(fw2, "remote", "--mark", str(0x5aa5c33c)) == 1
    before = stats(fw2)["peers"]["fw1"]
    assert spoil(fw2.daemon.pid, bytes.fromhex("03045aa5c33c"), bytes.fromhex("03045aa5c33d")) > 0
    assert count(fw2, "remote", "--mark", str(0x5aa5c33c)) == 0
    code, answer, wrong = verify(fw2)
    assert code == 1 and answer["peers"][0]["state"] == "different", answer
    assert wrong == {"changed, here": 1, "changed, there": 1}
    assert sorted(f["flow"]["mark"] for f in answer["differing"]) == [0x5aa5c33c, 0x5aa5c33d]
    assert count(fw2, "remote", "--mark", str(0x5aa5c33c)) == 1
    after = stats(fw2)["peers"]["fw1"]
    assert after["repairs_total"] == before["repairs_total"] + 1
    assert after["generations_total"] == before["generations_total"], "a full transfer for one flow"
    assert after["flows_applied_total"] - before["flows_applied_total"] < FLOWS / 4
    wait_equal(fw2)
    assert verify(fw2)[0] == 0


def test_verify_under_load(pair):
    """Changes that have events are no differences, however many there are; several at once are joined."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-o", 100000, "-n", 20000)

    def churn(stop):
        while not stop.is_set():
            ctgen(fw1, "churn", "-n", 10000, "-L", 300, "-r", 20000)

    def ask(_stop):
        return [verify(fw1) for _ in range(5)]

    churning = Background(churn)
    answers = [a for asking in [Background(ask), Background(ask)] for a in asking.join()]
    churning.join()
    for code, answer, wrong in answers:
        assert wrong == {}, answer
        assert answer["local"]["state"] == "equal", answer
    wait_equal(fw2)
    wait_verified(fw1)
    wait_verified(fw2)


# -- events that never come ---------------------------------------------------------------

def test_silent_flows(lab):
    """Flows from before the daemon's start never tell of their end: the audit finds out.

    The default, nf_conntrack_events=2, makes them silent if nobody listens anywhere on the machine; 0
    does it in any case.
    """
    fw1, fw2 = lab.fw1, lab.fw2
    fw1.sysctl(net__netfilter__nf_conntrack_events=0)
    ctgen(fw1, "create", "-n", FLOWS)
    start(lab, "kernel = { audit_s = 2; };")
    wait_holds(fw2, FLOWS)
    ctgen(fw1, "create", "-o", FLOWS, "-n", 1000)
    before = stats(fw1)["kernel"]["events_destroy_total"]
    ctgen(fw1, "delete", "-n", 3000)
    wait_for(lambda: count(fw1, "local", *GENERATED) == FLOWS - 2000, 30, "the audit to find them")
    assert stats(fw1)["kernel"]["events_destroy_total"] - before < 3000, "they were silent"
    assert stats(fw1)["kernel"]["confirmed_gone_total"] >= 3000
    wait_true(fw1)
    wait_equal(fw2)


@pytest.mark.parametrize("reliable", ["false", "true"])
def test_overrun(lab, reliable):
    """The reader stands still while more happens than its socket takes.

    With reliable_events the kernel keeps what has ended until it could say so.
    """
    fw1, fw2 = start(lab, f'kernel = {{ event_buffer = "256K"; reliable_events = {reliable}; }};')
    ctgen(fw1, "create", "-n", 20000)
    wait_true(fw1)
    wait_holds(fw2, 20000)
    before = fw1.status()["kernel"]["overruns"]
    fw1.daemon.send_signal(signal.SIGSTOP)
    ctgen(fw1, "delete", "-n", 15000)
    assert (fw1.kernel_count() > 15000) == (reliable == "true")
    ctgen(fw1, "create", "-o", 20000, "-n", 10000)
    ctgen(fw1, "update", "-o", 16000, "-n", 500, "-m", 9)
    ctgen(fw1, "create", "-n", 100)             # born again
    fw1.daemon.send_signal(signal.SIGCONT)
    wait_true(fw1)
    assert fw1.status()["kernel"]["overruns"] > before
    wait_for(lambda: fw1.kernel_count() < 15200, 30, "the kernel to have told all ends")
    wait_equal(fw2)
    assert count(fw2, "remote", "--mark", "9") == 500
    assert count(fw2, "remote", *GENERATED) == 15100
    wait_verified(fw1)


# -- floods and resizes -----------------------------------------------------------------------

@pytest.mark.parametrize("event_buffer", ["256K", "64M"])
def test_flush_of_everything(lab, event_buffer):
    """`conntrack -F`: as many ends at once as there are flows."""
    fw1, fw2 = start(lab, f'kernel = {{ event_buffer = "{event_buffer}"; }};')
    ctgen(fw1, "create", "-n", 200000)
    wait_for(lambda: count(fw1, "local", *GENERATED) == 200000, 30, "all to be read")
    wait_holds(fw2, 200000, 60)
    fw1.run("conntrack", "-F")
    ctgen(fw1, "create", "-n", 100)
    wait_for(lambda: count(fw1, "local", *GENERATED) == 100, 30, "the flows to be gone")
    wait_for(lambda: count(fw2, "remote", *GENERATED) == 100 and fw2.in_sync(), 30, "on the peer, too")
    wait_true(fw1)
    wait_verified(fw1)
    wait_equal(fw2)


def test_resize_of_the_hash_table(lab):
    """A dump that runs meanwhile shows some entries twice and others not at all."""
    fw1, fw2 = start(lab)
    ctgen(fw1, "create", "-o", 100000, "-n", 30000)
    old = int(BUCKETS.read_text())

    def churn(stop):
        while not stop.is_set():
            ctgen(fw1, "churn", "-n", 5000, "-L", 500, "-r", 10000)

    def resize(stop):
        turns = 0
        while not stop.is_set():
            # never below what it was: others have their flows in it, too
            BUCKETS.write_text(str([old * 2, old + old // 2, old][turns % 3]))
            turns += 1
        return turns

    churning = Background(churn)
    resizing = Background(resize)
    try:
        for _ in range(8):
            dumps = stats(fw1)["kernel"]["dumps_total"]
            fw1.ctsync("resync")
            wait_for(lambda: stats(fw1)["kernel"]["dumps_total"] > dumps, 30, "another dump")
        assert resizing.running() and churning.running()
        assert resizing.join() > 3
    finally:
        BUCKETS.write_text(str(old))
        churning.join()
    wait_true(fw1)
    assert count(fw1, "local", *GENERATED) == len(kernel_table(fw1)) >= 30000
    wait_equal(fw2)
    wait_verified(fw1)


# -- masquerade -----------------------------------------------------------------------------------

MASQUERADE = """
flush chain inet lab srcnat
add rule inet lab srcnat oifname "wan0" ip saddr 10.1.0.0/24 masquerade
add rule inet lab srcnat oifname "wan0" ip6 saddr fd00:1::/64 masquerade
"""


def masquerade(lab):
    """Translate to the virtual address, the only one there, in a way that forgets with the address."""
    for fw in (lab.fw1, lab.fw2):
        own = fw.number + 1
        fw.ip(f"addr del 192.0.2.{own}/24 dev wan0", f"addr del 2001:db8::{own}/64 dev wan0")
        fw.run("nft", "-f", "-", input=MASQUERADE)
    lab.fw1.take_addresses()            # what was secondary has gone with the others


def translated(fw):
    """Established flows whose source the kernel of fw translates, as a set of tuples."""
    done = fw.ctsync("show", "kernel", "-o", "json", "--src-nat", "-p", "tcp", "--state", "ESTABLISHED")
    return {json.dumps([f["orig"], f["reply"]]) for f in json.loads(done.stdout)}


@pytest.mark.parametrize("how", ["address", "link"])
def test_masquerade(lab, how):
    """The active loses the address, and with it the kernel all its flows; a second later the peer takes over."""
    fw1, fw2 = lab.fw1, lab.fw2
    masquerade(lab)
    start(lab)
    traffic = Traffic(lab, connections=60, udp=10, ping=0)
    traffic.start()
    wait_for(lambda: fw2.in_sync() and count(fw2, "remote", "-n", "-p", "tcp", "--state", "ESTABLISHED") >= 30,
             20, "fw2 to have them")
    flows = translated(fw1)
    assert len(flows) >= 30
    if how == "address":
        fw1.drop_addresses()
    else:
        fw1.ip("link set wan0 down", "link set lan0 down")
    wait_for(lambda: not translated(fw1), 10, "the kernel to forget them")
    held = stats(fw1)["kernel"]["held_total"]
    wait_for(lambda: stats(fw1)["kernel"]["held_total"] >= max(held, 30), 10, "their ends to be held back")
    before = fw1.status()["uptime_s"]
    wait_for(lambda: fw1.status()["uptime_s"] > before, 5, "a second to pass")
    takeover(fw2)
    assert translated(fw2) >= flows
    fw1.ctsync("release")
    fw2.take_addresses()
    traffic.wait_progress()
    assert passed(traffic.finish())
    assert not verify(fw1)[2], "what is held back is no difference"
    wait_for(lambda: count(fw1, "local", "-n", "-p", "tcp") == 0, 30, "fw1 to give them up")
    wait_equal(fw2)
    assert listed(fw2, "local", "-n")
