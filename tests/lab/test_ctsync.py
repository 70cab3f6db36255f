# SPDX-License-Identifier: GPL-3.0-or-later
"""ctsync and the control socket: exit codes, formats, and clients that misbehave."""

import contextlib
import json
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET

import pytest

from lab import CLIENT, LAN_VIP, LAN_VIP6, SERVER, SERVER6, WAN_VIP, Traffic, wait_for
from tools import (PORT, REQUEST, Background, Control, configure, count, ctgen, listed, stats,
                   takeover, wait_equal, wait_holds)

MANY = 200000

# -- exit codes ------------------------------------------------------------------------

FINE = [
    ["status"], ["show", "local"], ["show", "remote"], ["show", "kernel"], ["show", "local", "-o", "json"],
    ["show", "remote", "-o", "xml", "--peer", "fw1"], ["count", "local"], ["count", "remote"],
    ["count", "kernel"], ["show", "local", "expect"], ["show", "kernel", "expect", "-o", "xml"],
    ["count", "remote", "expect", "-p", "tcp", "-d", "10.0.0.0/8", "--peer", "fw1"], ["count", "local", "-p", "tcp", "-s", "10.0.0.0/8", "--dport", "80", "--state",
                          "ESTABLISHED", "-m", "1/0xff", "-w", "0"],
    ["resync"], ["flush", "local"], ["flush", "remote"], ["flush", "kernel"], ["stats"], ["metrics"],
    ["reload"], ["log", "debug"], ["commit"], ["takeover"], ["release"],
]
MISUSED = [
    [], ["nonsense"], ["status", "more"], ["show"], ["show", "nothing"], ["show", "local", "-o", "yaml"],
    ["show", "local", "-p", "nonsense"], ["show", "local", "--dport", "70000"],
    ["show", "local", "-s", "10.0.0.0/33"], ["show", "local", "--state", "OPEN"],
    ["show", "local", "--peer", "fw1"], ["show", "remote", "--peer", "fw9"], ["count"],
    ["count", "kernel", "--peer", "fw1"], ["forget"], ["forget", "fw9"], ["forget", "fw2"], ["flush"], ["flush", "all"], ["log"], ["log", "loud"],
    ["takeover", "now"], ["commit", "-x"], ["keygen", "key", "0"], ["keygen", "key", "70000"],
    ["--frob", "status"],
]


@pytest.mark.smoke
def test_exit_codes(pair):
    """0 done, 2 usage; with and without --json."""
    _, fw2 = pair
    for args in FINE:
        for words in (args, ["--json", *args]):
            done = fw2.ctsync(*words, check=False)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            assert done.stderr == "", words
            assert done.stdout or args[0] in ("show", "log"), words
    for args in MISUSED:
        done = fw2.ctsync(*args, check=False)
        assert done.returncode == 2, (args, done.returncode, done.stdout, done.stderr)
        assert done.stderr, args
    assert fw2.ctsync("ready").stdout.startswith("ready: ")
    assert fw2.ctsync("--json", "ready").returncode == 0


def test_not_ready_and_unreachable(lab):
    """1 not ready or failed, 3 unreachable, whatever the command."""
    fw1 = lab.fw1
    fw1.start_ctsyncd()
    done = fw1.ctsync("ready", check=False)
    assert done.returncode == 1 and done.stdout.startswith("not ready: ")
    done = fw1.ctsync("--json", "ready", check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["exit"] == 1
    fw1.config.write_text("nonsense")
    done = fw1.ctsync("reload", check=False)
    assert done.returncode == 1 and f"{fw1.config}:1" in done.stderr
    assert fw1.stop_ctsyncd() == 0
    for args in FINE:
        if args[0] in ("show", "count") and args[1] == "kernel":
            assert fw1.ctsync(*args, check=False).returncode == 0
            continue
        done = fw1.ctsync(*args, check=False)
        assert done.returncode == 3, (args, done.returncode)
        assert str(fw1.socket) in done.stderr, args
    assert fw1.ctsync("ready", check=False).returncode == 3
    assert fw1.ctsync("shutdown", check=False).returncode == 3


def test_keygen(lab):
    fw1 = lab.fw1
    path = lab.run_dir / "new-key"
    assert fw1.ctsync("keygen", path).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_text()
    assert re.search(r"^1 [A-Za-z0-9+/]{43}=$", first, re.M)
    assert fw1.ctsync("keygen", path, check=False).returncode == 1, "a key is never overwritten"
    assert path.read_text() == first
    fw1.ctsync("keygen", lab.run_dir / "other", 7)
    assert re.search(r"^7 ", (lab.run_dir / "other").read_text(), re.M)
    fw1.start_ctsyncd(key_file=path)


def test_shutdown(lab):
    daemon = lab.fw1.start_ctsyncd()
    ctgen(lab.fw1, "create", "-n", 10)
    assert lab.fw1.ctsync("shutdown").returncode == 0
    assert daemon.wait(timeout=10) == 0
    assert not lab.fw1.socket.exists()
    assert ctgen(lab.fw1, "count")["entries"] >= 10, "entries in the kernel stay"


# -- status -------------------------------------------------------------------------------

KEYS = {
    "": {"node", "cluster", "role", "term", "two_active", "version", "uptime_s", "local", "remote", "ready", "peers", "links",
         "kernel"},
    "local": {"flows", "version", "limit"},
    "remote": {"flows"},
    "ready": {"ok", "reason"},
    "kernel": {"events", "overruns", "resyncs", "count", "max"},
    "peers": {"node", "state", "term", "in_sync", "verified_ms", "lag_ms", "peer_in_sync", "peer_verified_ms",
              "peer_lag_ms", "flows", "acked", "pending", "link"},
    "links": {"name", "transport", "state", "tx_bytes", "rx_bytes", "rejected"},
}


def check_keys(status):
    for part, keys in KEYS.items():
        objects = status if part == "" else status[part]
        for entry in objects if isinstance(objects, list) else [objects]:
            assert keys <= entry.keys(), (part, keys - entry.keys())


def test_status_of_a_pair(pair):
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    wait_equal(fw2)
    wait_for(lambda: fw1.status()["peers"][0]["peer_in_sync"], 10, "fw2 to report")
    one, two = fw1.status(), fw2.status()
    check_keys(one)
    check_keys(two)
    assert (one["node"], one["cluster"], one["role"]) == ("fw1", "lab", "active")
    assert (two["node"], two["cluster"], two["role"]) == ("fw2", "lab", "standby")
    assert one["local"]["flows"] >= 1000 and one["local"]["version"] >= 1000
    assert one["local"]["limit"] == 4000000
    assert two["remote"]["flows"] >= 1000 and two["peers"][0]["flows"] == two["remote"]["flows"]
    assert two["ready"]["ok"] and two["ready"]["reason"].startswith("equal to fw1")
    (peer,) = two["peers"]
    assert (peer["node"], peer["state"], peer["in_sync"], peer["link"]) == ("fw1", "up", True, "ha0")
    assert isinstance(peer["verified_ms"], int) and peer["verified_ms"] < 30000
    assert peer["lag_ms"] is None or peer["lag_ms"] >= 0
    assert one["peers"][0]["peer_in_sync"] is True
    assert isinstance(one["peers"][0]["peer_verified_ms"], int)
    (link,) = two["links"]
    assert (link["name"], link["transport"], link["state"]) == ("ha0", "udp", "up")
    assert link["tx_bytes"] > 0 and link["rx_bytes"] > 1000
    assert one["kernel"]["count"] == int(fw1.run("conntrack", "-C").stdout)
    assert one["kernel"]["max"] > 0
    assert one["kernel"]["events"] >= 1000 and one["kernel"]["overruns"] == 0
    text = fw1.ctsync("status").stdout
    for word in ("fw1", "fw2", "ha0", "active", "lab"):
        assert word in text


def test_never_is_null(lab):
    """A configured peer that never appeared: lost, and nothing about it is 0 or made up."""
    lab.fw1.start_ctsyncd()
    status = lab.fw1.status()
    check_keys(status)
    (peer,) = status["peers"]
    assert peer["node"] == "fw2" and peer["state"] == "lost" and peer["in_sync"] is False
    for key in ("verified_ms", "lag_ms", "peer_in_sync", "peer_verified_ms", "peer_lag_ms", "link"):
        assert peer[key] is None, key
    assert peer["flows"] == 0 and status["remote"]["flows"] == 0
    assert not status["ready"]["ok"]
    lab.fw1.ctsync("status")        # prints it, too


def test_metrics(pair):
    """Prometheus text: every sample has its type before it, none comes twice, peers are labels."""
    fw1, _ = pair
    typed, seen = set(), set()
    for line in fw1.ctsync("metrics").stdout.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in typed and kind in ("counter", "gauge"), line
            typed.add(name)
        elif not line.startswith("#"):
            match = re.fullmatch(r'(ctsync_[a-z0-9_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? '
                                 r"-?[0-9.]+(e[+-]?[0-9]+)?", line)
            assert match, line
            assert match[1] in typed and (match[1], match[2]) not in seen, line
            seen.add((match[1], match[2]))
    for sample in (("ctsync_active", None), ("ctsync_peer_up", '{peer="fw2"}'),
                   ("ctsync_link_tx_bytes_total", '{link="ha0"}'), ("ctsync_rejected_bad_tag_total", None)):
        assert sample in seen, sample


# -- show against conntrack -----------------------------------------------------------------------

OWN = re.compile(r"(10\.9\.9|10\.1\.0|192\.0\.2)\.[123]|(fd00:9|fd00:1|2001:db8)::[123]|f[ef].*:.*|127\..*|::1")


def is_own(line):
    """Does the flow end on a firewall: is its source, of either direction, an address of the node?"""
    return any(OWN.fullmatch(address) for address in re.findall(r"src=(\S+)", line))


def normal(line):
    """A line of conntrack -L or ctsync show without what runs or belongs to the kernel alone."""
    line = re.sub(r"^ipv[46]\s+\d+ ", "", line.strip())
    line = re.sub(r"^(\S+\s+\d+) \d+ ", r"\1 ", line)
    line = re.sub(r" (use=\d+|packets=\d+ bytes=\d+)(?= |$)", "", line)
    return " ".join(re.sub(r" (secctx|id_?)=\S+$", "", line).split())


@pytest.fixture
def mixture(pair, lab):
    """Real and made-up flows of all kinds, standing still."""
    fw1, fw2 = pair
    fw1.run("nft", "insert rule inet lab forward meta l4proto udp ct mark set 42")
    traffic = Traffic(lab, connections=12, udp=4, ping=2)
    traffic.start()
    for number, kind in enumerate(("tcp", "udp", "tcp-snat", "tcp6-snat", "dnat")):
        ctgen(fw1, "create", "-k", kind, "-n", 20, "-o", 1000 * number, "-m", number)
    ctgen(fw1, "create", "-n", 5, "-o", 9000, "-S", "FIN_WAIT", "-t", 600)
    ctgen(fw1, "create", "-n", 5, "-o", 9100, "-B", "0x8", "-S", "SYN_SENT", "-t", 600)
    traffic.finish()
    wait_equal(fw2)
    return fw1, fw2


def test_show_as_conntrack_does(mixture):
    """Protocol, state, addresses, ports, translation, mark: the very lines of conntrack -L."""
    fw1, fw2 = mixture

    def both():
        """Flows come to their end meanwhile: until one look at all of them agrees."""
        kernel = set()
        for family in ("ipv4", "ipv6"):
            for line in fw1.run("conntrack", "-L", "-f", family).stdout.splitlines():
                if not is_own(line):
                    kernel.add(normal(line))
        shown = [{normal(line) for line in fw.ctsync("show", table).stdout.splitlines()}
                 for fw, table in ((fw1, "local"), (fw2, "remote"))]
        shown.append({normal(line) for line in fw1.ctsync("show", "kernel").stdout.splitlines()
                      if not is_own(line)})
        both.last = [("conntrack alone:", kernel - s, "ctsync alone:", s - kernel) for s in shown]
        return kernel if all(s == kernel for s in shown) else None

    both.last = None
    try:
        lines = wait_for(both, 20, "the same lines")
    except Exception as error:
        raise AssertionError(both.last) from error
    text = "\n".join(lines)
    for word in ("tcp 6 ESTABLISHED", "tcp 6 FIN_WAIT", "tcp 6 SYN_SENT", "udp 17", "icmp 1", "icmpv6 58",
                 "[ASSURED]", "[UNREPLIED]", "mark=42", "mark=3"):
        assert word in text, word


def test_show_xml(mixture):
    fw1, _ = mixture

    def flows(text):
        found = set()
        for flow in ET.fromstring(text).iter("flow"):
            for tag in ("timeout", "use", "id", "counters"):
                for parent in flow.iter("meta"):
                    for node in parent.findall(tag):
                        parent.remove(node)
            found.add(ET.tostring(flow))
        return found
    ours = flows(fw1.ctsync("show", "local", "-o", "xml", "-p", "tcp", "-f", "ipv4").stdout)
    theirs = flows(fw1.run("conntrack", "-L", "-o", "xml", "-p", "tcp").stdout)
    assert len(ours) >= 70 and ours <= theirs


def test_show_json(mixture):
    fw1, _ = mixture
    flows = json.loads(fw1.ctsync("show", "local", "-o", "json").stdout)
    assert len(flows) == count(fw1, "local") >= 110
    (flow,) = json.loads(fw1.ctsync("--json", "show", "local", "-s", "100.64.7.209", "-d",
                                    "198.18.0.0/15", "--sport", "1024", "-p", "tcp", "-m", "2").stdout)
    assert flow["family"] == "ipv4" and flow["proto"] == "tcp" and flow["protonum"] == 6
    assert flow["orig"]["src"] == "100.64.7.209"
    assert flow["orig"]["dport"] == 443 and flow["reply"]["dst"] == "203.0.113.1"
    assert flow["mark"] == 2 and flow["timeout"] > 80000
    assert {"seen_reply", "assured", "confirmed", "src_nat"} <= set(flow["status"])


@pytest.mark.parametrize("options, expected", [
    (["-p", "udp", "-s", "100.64.0.0/10"], 20), (["-p", "17", "-m", "1"], 20),
    (["--state", "FIN_WAIT"], 5), (["--state", "SYN_SENT", "-s", "100.64.0.0/10"], 5),
    (["-f", "ipv6", "-s", "2001:db8:6440::/42", "--src-nat"], None), (["--dst-nat", "-m", "4"], 20),
    (["-m", "0x2/0x3", "-s", "100.64.0.0/10"], 20), (["-p", "tcp", "-m", "4", "--src-nat"], 0),
    (["--dport", "53", "-s", "100.64.0.0/10"], 20), (["-w", "5"], 0),
])
def test_filters(mixture, options, expected):
    """The same number from the daemon, from the tool's own look at the kernel, and by counting lines."""
    fw1, fw2 = mixture
    number = count(fw1, "local", *options)
    if expected is not None:
        assert number == expected
    assert len(listed(fw1, "local", *options)) == number
    assert count(fw2, "remote", *options) == number
    assert count(fw1, "kernel", *options) == number


@pytest.mark.smoke
def test_own_and_sync_traffic_is_not_listed(pair, lab):
    """What ends on the firewall itself, and our own datagrams; what passes through is there."""
    fw1, fw2 = pair
    for address in (LAN_VIP, LAN_VIP6, "10.1.0.2"):
        lab.client.run("ping", "-c", "1", "-W", "2", address)
    fw1.run("ping", "-c", "1", "-W", "2", SERVER)
    lab.client.run("ping", "-c", "1", "-W", "2", SERVER)
    lab.client.run("ping", "-c", "1", "-W", "2", SERVER6)
    kernel = fw1.run("conntrack", "-L").stdout
    assert f"dport={PORT}" in kernel and f"dst={LAN_VIP} " in kernel and "src=192.0.2.2 " in kernel
    wait_for(lambda: count(fw1, "local", "-p", "icmp", "-s", CLIENT, "-d", SERVER) >= 1 and
             count(fw1, "local", "-p", "icmpv6", "-d", SERVER6) >= 1, 10, "the pings to be listed")
    wait_equal(fw2)
    for fw, table in ((fw1, "local"), (fw2, "remote"), (fw2, "local")):
        for line in listed(fw, table):
            assert f"port={PORT}" not in line and "10.9.9." not in line, line
            for own in (LAN_VIP, LAN_VIP6, "10.1.0.2", "192.0.2.2"):
                assert f"dst={own} type=8" not in line and f"src={own} " not in line, line
            assert f"dst={LAN_VIP} " not in line, line
    filtered = stats(fw1)["filter"]
    assert filtered["own_address_total"] + filtered["sync_traffic_total"] > 0
    takeover(fw2)
    assert WAN_VIP in fw2.run("conntrack", "-L").stdout


# -- clients that misbehave ---------------------------------------------------------------------

def memory_kb(fw):
    with open(f"/proc/{fw.daemon.pid}/status", encoding="ascii") as fp:
        return int(re.search(r"VmRSS:\s+(\d+)", fp.read())[1])


def test_show_of_many(pair):
    """A reader that stops reading 200,000 flows: the daemon waits for it, buffers little, serves others."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", MANY)
    wait_holds(fw2, MANY)
    before = memory_kb(fw2)
    slow = subprocess.Popen(fw2.command([fw2.lab.bin("ctsync"), "-s", fw2.socket, "show", "remote"]),
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        first = slow.stdout.readline()
        for _ in range(20):
            assert fw2.status()["remote"]["flows"] >= MANY
        assert count(fw2, "remote") >= MANY
        ctgen(fw1, "create", "-o", MANY, "-n", 500)
        wait_holds(fw2, MANY + 500)
        assert memory_kb(fw2) - before < 4096, "the answer is not buffered"
        lines = {first, *slow.stdout}
    finally:
        slow.kill()
        slow.wait()
    assert MANY <= len(lines) <= MANY + 600
    # And while one reads as fast as it can.
    reading = Background(lambda _stop: len(listed(fw2, "remote")))
    answers = 0
    while reading.running():
        assert fw2.status() is not None
        answers += 1
    assert reading.join() >= MANY + 500 and answers >= 3


def test_stalled_client_is_dropped(lab):
    fw1 = lab.fw1
    configure(fw1, control_keys="stall_s = 1;")
    fw1.start_ctsyncd()
    ctgen(fw1, "create", "-n", 50000)
    wait_for(lambda: count(fw1, "local") >= 50000, 20, "the flows")
    with Control(fw1) as reader, Control(fw1) as writer, Control(fw1) as idle:
        reader.send({"cmd": "show", "table": "local"})      # and never reads
        writer.sock.sendall(struct.pack("!IB", 100, REQUEST) + b'{ "proto"')    # and never goes on
        assert fw1.status() is not None
        wait_for(lambda: stats(fw1)["control"]["stalled_total"] >= 2, 20, "the daemon to drop them")
        assert writer.dropped() and reader.dropped() and idle.dropped()
    assert fw1.status() is not None


@pytest.mark.smoke
def test_rubbish(lab):
    """Each is answered with an error or dropped, counted, and disturbs nobody."""
    fw1 = lab.fw1
    fw1.start_ctsyncd()
    frame = struct.Struct("!IB").pack
    with Control(fw1) as good:
        for data in (b"\xff" * 5, frame(1 << 31, REQUEST), frame(65537, REQUEST), frame(4, 99) + b"abcd",
                     frame(4, REQUEST) + b"{{{{", frame(2, REQUEST) + b"[]", frame(0, REQUEST),
                     b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", frame(3, REQUEST) + b"\xff\xfe{",
                     frame(60000, REQUEST) + b"[" * 60000):
            with Control(fw1) as client:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sock.sendall(data)
                with contextlib.suppress(EOFError, ConnectionResetError):
                    answer = client.result()
                    assert answer["ok"] is False and answer["exit"] == 2 and answer["error"], data[:20]
                assert client.dropped(), data[:20]
        # Requests that are JSON, but wrong: an answer, and the connection may stay.
        for request in ({"cmd": "nonsense"}, {"cmd": 7}, {}, {"cmd": "show"},
                        {"cmd": "show", "table": "local", "filter": {"proto": []}},
                        {"cmd": "log", "level": {}}, {"cmd": "flush", "table": None},
                        {"cmd": "forget", "peer": 1},
                        {"cmd": "status", "proto": 99}):
            with Control(fw1) as client:
                client.send(request)
                answer = client.result()
                assert answer["ok"] is False and answer["exit"] == 2, request
        good.send({"cmd": "status"})
        assert good.result()["node"] == "fw1"
    assert stats(fw1)["control"]["rubbish_total"] >= 8


def test_more_clients_than_allowed(lab):
    """The surplus is refused; those who were there, and the daemon, go on; room comes back."""
    fw1 = lab.fw1
    configure(fw1, control_keys="max_clients = 4;")
    fw1.start_ctsyncd()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Control(fw1)) for _ in range(12)]
        wait_for(lambda: True, 1, "")
        answered = 0
        for client in clients:
            with contextlib.suppress(EOFError, OSError):
                client.send({"cmd": "status"})
                answered += client.result()["ok"]
        assert 1 <= answered <= 4
    wait_for(fw1.status, 10, "room for a client")
    assert stats(fw1)["control"]["busy_total"] >= 1


@pytest.mark.smoke
def test_unprivileged_user(lab):
    """Refused, with the exit code for it; whatever the file's mode says."""
    fw1 = lab.fw1
    fw1.start_ctsyncd()
    program = lab.run_dir / "ctsync"
    shutil.copy(lab.bin("ctsync"), program)
    program.chmod(0o755)

    def ask(*args):
        return subprocess.run([program, "-s", fw1.socket, *args], user="nobody", group="nogroup",
                              extra_groups=[], text=True, capture_output=True, check=False, timeout=20)
    for command in (["status"], ["takeover"], ["show", "local"], ["shutdown"]):
        done = ask(*command)
        assert done.returncode == 3, (command, done.returncode, done.stderr)
        assert done.stderr and not done.stdout
    fw1.socket.chmod(0o666)
    for command in (["status"], ["takeover"], ["show", "local"], ["shutdown"]):
        done = ask(*command)
        assert done.returncode == 3 and "permi" in done.stderr, (command, done.returncode, done.stderr)
    assert fw1.status()["role"] == "standby"
    assert stats(fw1)["control"]["denied_total"] == 4


def test_read_only_group(lab):
    """status, ready and metrics for the group that may only look; nothing else."""
    fw1 = lab.fw1
    configure(fw1, control_keys='read_group = "nogroup";')
    fw1.start_ctsyncd()
    program = lab.run_dir / "ctsync"
    shutil.copy(lab.bin("ctsync"), program)
    program.chmod(0o755)

    def ask(*args):
        return subprocess.run([program, "-s", fw1.socket, *args], user="nobody", group="nogroup",
                              extra_groups=[], text=True, capture_output=True, check=False,
                              timeout=20).returncode
    assert ask("status") == 0 and ask("metrics") == 0 and ask("ready") in (0, 1)
    for command in (["takeover"], ["show", "local"], ["stats"], ["flush", "kernel"], ["shutdown"]):
        assert ask(*command) == 3, command
    assert fw1.status()["role"] == "standby"
