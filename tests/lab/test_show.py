# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ctsync show` prints is what conntrack prints: flows with everything that they can have, and
expectations, on the node that made them, in the copy, and in the kernel of the node that took them over.

Lines are compared as they are, sorted, but for timeout, use, id, counters and times.
"""

import json
import re
import socket

import pytest

from handmade import (GRE, ICMP, ICMPV6, INACTIVE, PERMANENT, SCTP, SEEN_REPLY, TCP, UDP, UDPLITE, Tuple,
                      expectation, flow, put)
from lab import SERVER, WAN_VIP, LabError, in_netns, wait_for
from test_ctsync import OWN
from tools import count, ctgen, stats, takeover, wait_equal, wait_proof

FTP_RULES = """
table inet show {
	ct helper ftp-control { type "ftp" protocol tcp; }
	chain pre {
		type filter hook prerouting priority -150; policy accept;
		tcp dport 21 ct helper set "ftp-control"
		udp dport 9999 ct label set 5
	}
}
"""
LABELS = "0 first\n5 five\n64 middle\n127 last\n"

# -- what conntrack says ------------------------------------------------------------------

FLOWS = {"text": ["-o", "extended,labels"], "xml": ["-o", "xml"]}

# conntrack looks for the names of labels in /etc/xtables/connlabel.conf: in an /etc that nobody else sees.
WITH_LABELS = """
cp /etc/ld.so.cache "$1/" && mount -t tmpfs tmpfs /etc && cp "$1/ld.so.cache" /etc/ && mkdir /etc/xtables &&
cp "$1/connlabel.conf" /etc/xtables/ && shift && exec "$@"
"""


def run(fw, *args, labels=False):
    """stdout of a program in the namespace of fw; labels: they have names."""
    if labels:
        (fw.dir / "connlabel.conf").write_text(LABELS)
        args = ["unshare", "-m", "sh", "-c", WITH_LABELS, "sh", fw.dir, *args]
    return fw.run(*args).stdout


def show(fw, table, *options, labels=False):
    return run(fw, fw.lab.bin("ctsync"), "-s", fw.socket, "show", table, *options, labels=labels)


def is_own(line):
    """Does a flow end on a firewall?  In text and in XML."""
    sources = re.findall(r" src=(\S+)", line) or re.findall(r"<src>([^<]*)</src>", line)
    return any(OWN.fullmatch(address) for address in sources)


def same(text, own=True):
    """Sorted lines without what runs, or belongs to one kernel.  own: with flows of the firewalls."""
    lines = []
    for line in text.splitlines():
        line = re.sub(r"^(ipv[46] +\d+ \S+ +\d+) \d+ ", r"\1 ", line)
        line = re.sub(r"^\d+ (proto=)", r"\1", line)
        line = re.sub(r" (use=\d+|packets=\d+ bytes=\d+|delta-time=\d+)(?= |$)", "", line)
        line = re.sub(r"<(timeout|use|id|counters|timestamp|deltatime)>.*?</\1>", "", line)
        if own or not is_own(line):
            lines.append(line)
    return sorted(lines)


def conntrack(fw, form, labels=False):
    return same(run(fw, "conntrack", "-L", *FLOWS[form], labels=labels), own=False)


def conntrack_expect(fw, form):
    """conntrack lists expectations of one family at a time, and nothing at all if there is none."""
    lines = []
    for family in ("ipv4", "ipv6"):
        options = ["-o", "xml"] if form == "xml" else []
        lines += same(run(fw, "conntrack", "-L", "expect", "-f", family, *options))
    return sorted(set(lines) if form == "xml" else lines)


def differ(found):
    """What is in one of the listings and not in the other; {} if all are equal."""
    (first, theirs), *others = found.items()
    out = {}
    for key, lines in others:
        if lines != theirs:
            out[f"{first} / {key}"] = ([x for x in theirs if x not in lines], [x for x in lines if x not in theirs])
    return out


def wait_same(listings, timeout=20):
    """Until all of the listings are equal; they are functions, by name.  What they say."""
    last = {}

    def equal():
        last.clear()
        last.update({key: function() for key, function in listings.items()})
        return not differ(last)
    try:
        wait_for(equal, timeout, "equal listings", 0.2)
    except LabError as error:
        raise AssertionError(json.dumps(differ(last), indent=1)) from error
    return next(iter(last.values()))


# -- flows of every kind --------------------------------------------------------------------


def control(number, six=False):
    """An FTP control connection that does not exist."""
    if six:
        return Tuple(TCP, "2001:db8:7::1", "2001:db8:8::1", 40000 + number, 21)
    return Tuple(TCP, "198.51.100.1", "203.0.113.21", 40000 + number, 21)


def put_flows(fw):
    """All protocols, every attribute at least once."""
    a, b, a6, b6 = "198.51.100.1", "203.0.113.9", "2001:db8:7::1", "2001:db8:8::1"
    put(fw, flow(control(0), helper="ftp", mark=7, seqadj=(1000, 2, 0xfffffffd), labels=(0, 5, 64, 127)),
        flow(control(0, six=True), helper="ftp"),
        flow(Tuple(TCP, a, b, 2000, 30000), master=control(0)),
        flow(Tuple(TCP, a, b, 2001, 80), state=1, status=0),
        flow(Tuple(TCP, a, b, 2002, 80), labels=(9,)),          # one that has no name
        flow(Tuple(TCP, a, b, 2003, 80), synproxy=(1, 2, 3)),
        flow(Tuple(TCP, a6, b6, 2004, 443), mark=0xffffffff, labels=(5,)),
        flow(Tuple(UDP, a, b, 2005, 53), status=SEEN_REPLY),
        flow(Tuple(UDP, a, b, 2006, 53), zone=7, labels=(5, 64)),
        flow(Tuple(UDPLITE, a6, b6, 2007, 53)),
        flow(Tuple(SCTP, a, b, 2008, 36412), state=4, vtags=(0x1234, 0xfedcba98)),
        flow(Tuple(SCTP, a, b, 2009, 36412), state=7, vtags=(1, 2)),
        flow(Tuple(GRE, a, b, 0x11, 0x22)), flow(Tuple(GRE, a6, b6, 0x33, 0x44)),
        flow(Tuple(ICMP, a, b, 77, (8, 0)), status=0), flow(Tuple(ICMP, a, b, 78, (13, 0)), status=SEEN_REPLY),
        flow(Tuple(ICMPV6, a6, b6, 79, (128, 0)), status=0),
        flow(Tuple(50, a, b)), flow(Tuple(89, a6, b6), status=0))
    for options in (["-p", "dccp", "--role", "client", "--state", "OPEN", "--sport", "9", "--dport", "10"],
                    ["-p", "tcp", "--sport", "2010", "--dport", "80", "--state", "CLOSE_WAIT", "--orig-zone", "8"],
                    ["-p", "tcp", "--sport", "2011", "--dport", "80", "--state", "TIME_WAIT", "--reply-zone", "9"],
                    ["-p", "tcp", "--sport", "2012", "--dport", "80", "--state", "ESTABLISHED", "-u",
                     "SEEN_REPLY,ASSURED", "--src-nat", "192.0.2.77:4444"]):
        fw.run("conntrack", "-I", "-s", a, "-d", b, "-t", "600", *options)
    for number, kind in enumerate(("tcp-snat", "tcp6-snat", "dnat", "udp")):
        ctgen(fw, "create", "-k", kind, "-n", 3, "-o", 100 * number)


def put_expectations(fw):
    """Six.  What each master may expect is limited to one: so each has a master of its own."""
    put(fw, *(flow(control(n), helper="ftp") for n in range(1, 5)))
    put(fw, flow(control(1, six=True), helper="ftp"), flow(control(5), helper="ftp", zone=7))
    client, server = "198.51.100.1", "203.0.113.21"
    put(fw, expectation(Tuple(TCP, server, client, 0, 5001), control(1)),
        expectation(Tuple(TCP, server, client, 0, 5002), control(2), flags=PERMANENT, function="nat-follow-master",
                    nat=Tuple(TCP, "10.1.0.10", "0.0.0.0", 5003, 0)),
        expectation(Tuple(UDP, server, client, 0, 5004), control(3), flags=PERMANENT | INACTIVE,
                    source="255.255.255.0"),
        expectation(Tuple(TCP, server, client, 20, 5005), control(4), port=0xffff),
        expectation(Tuple(TCP, "2001:db8:8::1", "2001:db8:7::1", 0, 5006), control(1, six=True),
                    source="ffff:ffff::"),
        expectation(Tuple(TCP, server, client, 0, 5007), control(5), zone=7))


@pytest.fixture
def firewalls(lab):
    """Both daemons run, both rulesets know labels and FTP, fw1 is active: (fw1, fw2)."""
    for fw in (lab.fw1, lab.fw2):
        fw.run("nft", "-f", "-", input=FTP_RULES)
        fw.start_ctsyncd()
    takeover(lab.fw1)
    lab.fw2.wait_ready()
    return lab.fw1, lab.fw2


@pytest.mark.parametrize("form", ["text", "xml"])
def test_flows(firewalls, form):
    """Line by line as conntrack prints them: of the owner, of the copy, and of the kernel that got the copy."""
    fw1, fw2 = firewalls
    put_flows(fw1)
    wait_proof(fw2)
    options = ["-o", form]
    before = wait_same({
        "conntrack of fw1": lambda: conntrack(fw1, form),
        "kernel of fw1": lambda: same(show(fw1, "kernel", *options), own=False),
        "local of fw1": lambda: same(show(fw1, "local", *options)),
        "remote of fw2": lambda: same(show(fw2, "remote", *options)),
    })
    answer = takeover(fw2)
    assert answer["without_master"] == answer["without_helper"] == answer["without_labels"] == 0
    committed = wait_same({
        "conntrack of fw2": lambda: conntrack(fw2, form),
        "kernel of fw2": lambda: same(show(fw2, "kernel", *options), own=False),
        "local of fw2": lambda: same(show(fw2, "local", *options)),
    })
    left_out = set(before) ^ set(committed)
    assert not [line for line in left_out if "icmp" not in line], "only the lab's own pings come and go"
    if form == "text":
        assert not any("labels" in line for line in committed), "they have no names"
        for part in ("ipv4     2 sctp     132 ESTABLISHED ", "ipv6     10 tcp      6 ", " helper=ftp",
                     "ipv4     2 gre      47 src=198.51.100.1 dst=203.0.113.9 srckey=0x11 dstkey=0x22 ",
                     "[UNREPLIED]", "[ASSURED]", "mark=4294967295", "zone=7", "zone-orig=8", "zone-reply=9",
                     "type=13 code=0 id=78", "ipv4     2 dccp     33 ", "ipv6     10 unknown  89 ", "udplite  136"):
            assert any(part in line for line in committed), part


def test_labels_with_names(firewalls):
    """Where conntrack has names for labels, show has them, too."""
    fw1, fw2 = firewalls
    put_flows(fw1)
    wait_proof(fw2)
    takeover(fw2)
    committed = wait_same({
        "conntrack of fw2": lambda: conntrack(fw2, "text", labels=True),
        "kernel of fw2": lambda: same(show(fw2, "kernel", labels=True), own=False),
        "local of fw2": lambda: same(show(fw2, "local", labels=True)),
        "local of fw1": lambda: same(show(fw1, "local", labels=True)),
        "conntrack of fw1": lambda: conntrack(fw1, "text", labels=True),
    })
    assert sorted(m[1] for m in map(re.compile(r" labels(\S*)").search, committed) if m) == [
        "", "=first,five,middle,last", "=five", "=five,middle"]


def without_times(text, zone=True):
    """Entries of JSON without what runs, or belongs to one kernel alone."""
    flows = json.loads(text)
    for entry in flows:
        entry.pop("timeout")
        if not zone:        # the kernel does not tell those of expectations
            entry.pop("zone", None)
            entry.pop("zone_dir", None)
        entry["status"] = [word for word in entry.get("status", []) if word != "fixed_timeout"]
        if "tcp" in entry:
            entry["tcp"]["flags"] = [n & 0x07 for n in entry["tcp"]["flags"]]
    return sorted(json.dumps(entry, sort_keys=True) for entry in flows)


def test_json(firewalls):
    """All that text leaves out, from the kernel and from the tables alike."""
    fw1, fw2 = firewalls
    put_flows(fw1)
    put_expectations(fw1)
    wait_proof(fw2)
    takeover(fw2)
    select = ["-o", "json", "-s", "198.51.100.0/24"]
    wait_same({f"{table} of {fw.name}": lambda fw=fw, table=table: without_times(show(fw, table, *select))
               for fw, table in ((fw1, "local"), (fw2, "local"), (fw1, "kernel"), (fw2, "kernel"))})
    flows = {(f["proto"], f["orig"].get("sport")): f for f in json.loads(show(fw2, "local", *select))}
    ftp = flows["tcp", 40000]
    assert ftp["helper"] == "ftp" and ftp["labels"] == [0, 5, 64, 127]
    assert ftp["seqadj"] == {"original": {"pos": 1000, "before": 2, "after": -3}}
    data = flows["tcp", 2000]
    assert (data["master"]["proto"], data["master"]["sport"], data["master"]["dport"]) == ("tcp", 40000, 21)
    assert flows["tcp", 2003]["synproxy"] == {"isn": 1, "its": 2, "tsoff": 3}
    assert flows["sctp", 2008]["state"] == "ESTABLISHED"
    assert flows["sctp", 2008]["sctp"] == {"vtag": [0x1234, 0xfedcba98]}
    for key in ("helper", "labels", "seqadj", "master", "synproxy"):
        assert key not in flows["tcp", 2001], key
    select = ["expect", "-o", "json", "-f", "ipv4"]
    wait_same({f"{table} of {fw.name}": lambda fw=fw, table=table: without_times(show(fw, table, *select), False)
               for fw, table in ((fw1, "local"), (fw2, "local"), (fw1, "kernel"), (fw2, "kernel"))})
    expected = {e["expected"]["dport"]: e for e in json.loads(show(fw2, "local", *select))}
    assert sorted(expected) == [5001, 5002, 5004, 5005, 5007]
    assert expected[5002]["nat"] == {"dir": "reply", "addr": "10.1.0.10", "port": 5003}
    assert expected[5002]["function"] == "nat-follow-master" and expected[5002]["helper"] == "ftp"
    assert expected[5004]["flags"] == ["permanent", "inactive"] and expected[5004]["class"] == 0
    assert expected[5004]["mask"] == {"src": "255.255.255.0", "dst": "255.255.255.255", "sport": 0, "dport": 65535}
    assert expected[5005]["master"]["sport"] == 40004
    assert (expected[5007]["zone"], expected[5007]["zone_dir"]) == (7, "both")


# -- expectations -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "xml"])
def test_expectations(firewalls, form):
    """As conntrack -L expect prints them, wherever they are; flows are listed without them."""
    fw1, fw2 = firewalls
    put_expectations(fw1)
    wait_proof(fw2)
    options = ["expect", "-o", form]
    listings = {
        "conntrack of fw1": lambda: conntrack_expect(fw1, form),
        "kernel of fw1": lambda: same(show(fw1, "kernel", *options)),
        "local of fw1": lambda: same(show(fw1, "local", *options)),
        "remote of fw2": lambda: same(show(fw2, "remote", *options)),
    }
    before = wait_same(listings)
    assert len([line for line in before if "203.0.113.21" in line]) == 5
    assert len([line for line in before if "2001:db8:8::1" in line]) == 1
    answer = takeover(fw2)
    assert answer["expectations"] == 6 and answer["without_master"] == 0
    committed = wait_same({
        "conntrack of fw2": lambda: conntrack_expect(fw2, form),
        "kernel of fw2": lambda: same(show(fw2, "kernel", *options)),
        "local of fw2": lambda: same(show(fw2, "local", *options)),
    })
    assert committed == before
    for table in ("local", "remote", "kernel"):
        assert "proto=" not in show(fw1, table) and "5001" not in show(fw1, table)


def test_counts_and_filters(firewalls):
    """Conditions are about the tuple that is expected, in the daemon as in the tool's own look at the kernel."""
    fw1, fw2 = firewalls
    put_flows(fw1)
    put_expectations(fw1)
    wait_proof(fw2)
    for options, number in (([], 6), (["-p", "tcp"], 5), (["-p", "udp"], 1), (["-f", "ipv6"], 1),
                            (["-s", "203.0.113.0/24"], 5), (["-d", "198.51.100.1", "--dport", "5002"], 1),
                            (["--sport", "20"], 1), (["--sport", "21"], 0), (["-w", "0"], 5), (["-w", "7"], 1),
                            (["-s", "198.51.100.1"], 0)):
        assert count(fw1, "local", "expect", *options) == number, options
        if "-w" not in options:
            assert count(fw1, "kernel", "expect", *options) == number, options
        assert count(fw2, "remote", "expect", *options) == number, options
        assert len(show(fw2, "remote", "expect", *options).splitlines()) == number, options
    assert count(fw2, "remote", "expect", "--peer", "fw1") == 6
    assert json.loads(fw1.ctsync("--json", "count", "local", "expect").stdout)["count"] == 6
    flows = count(fw1, "local")
    assert flows == len(show(fw1, "local").splitlines())
    status = fw1.status()
    assert status["local"]["expectations"] == 6 and status["local"]["flows"] == flows + 6
    assert fw2.status()["remote"]["expectations"] == 6
    assert stats(fw1)["local"]["expectations"] == stats(fw2)["peers"]["fw1"]["expectations"] == 6
    assert ", 6 of them expectations" in fw1.ctsync("status").stdout
    assert ", 6 of them expectations, in " in fw2.ctsync("takeover").stdout
    fw1.run("conntrack", "-F", "expect")
    wait_for(lambda: count(fw1, "local", "expect") == 0 and fw1.status()["local"]["expectations"] == 0 and
             fw2.status()["remote"]["expectations"] == 0, 30, "no expectations to be left", 0.2)


@pytest.mark.parametrize("words, says", [
    (["expectations"], '"expectations"'), (["expect", "more"], '"more" is one word too many'),
    (["expect", "--state", "ESTABLISHED"], "state"), (["expect", "-m", "1"], "mark"),
    (["expect", "-r", "10.0.0.1"], "reply_src"), (["expect", "-q", "10.0.0.1"], "reply_dst"),
    (["expect", "-n"], "src_nat"), (["expect", "-g"], "dst_nat"), (["--assured", "expect"], "assured"),
])
def test_words_that_make_no_sense(firewalls, words, says):
    """Refused with what is wrong, whichever table it is."""
    fw1, _ = firewalls
    for command in ("show", "count"):
        for table in ("local", "remote", "kernel"):
            done = fw1.ctsync(command, table, *words, check=False)
            assert done.returncode == 2 and done.stdout == "", (command, table, words)
            assert done.stderr.startswith(f"ctsync: {command}: ") and says in done.stderr, done.stderr


def test_zones_that_the_kernel_keeps_to_itself(firewalls):
    fw1, _ = firewalls
    done = fw1.ctsync("count", "kernel", "expect", "-w", "7", check=False)
    assert done.returncode == 2 and "zone" in done.stderr
    assert count(fw1, "kernel", "-w", "7") == 0


# -- a real control connection ------------------------------------------------------------------------


LONGER = "10.1.0.100"       # than what it is translated to: sequence numbers have to be adjusted


class Ftp:
    """A control connection from the client to the server, which announces a port for the data."""

    def __init__(self, lab):
        self.lab = lab
        lab.client.ip(f"addr add {LONGER}/24 dev lan0")
        listener = in_netns(lab.server.ns, lambda: self._listen(SERVER, 21))
        self.client = in_netns(lab.client.ns, lambda: socket.create_connection((SERVER, 21), 10, (LONGER, 0)))
        self.server, _ = listener.accept()
        listener.close()
        self.server.settimeout(10)
        self._say(self.server, self.client, "220 ready")
        self._say(self.client, self.server, "USER anonymous")   # the helper looks for the line after this
        self.data = in_netns(lab.client.ns, lambda: self._listen(LONGER, 0))
        port = self.data.getsockname()[1]
        self.wanted = self._say(self.client, self.server,
                                f"PORT {LONGER.replace('.', ',')},{port // 256},{port % 256}")

    @staticmethod
    def _listen(address, port):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(10)
        sock.bind((address, port))
        sock.listen()
        return sock

    @staticmethod
    def _say(sender, receiver, line):
        sender.sendall(f"{line}\r\n".encode())
        return receiver.recv(200).decode().strip()

    def transfer(self):
        """The server connects to where it was told to."""
        *octets, high, low = (int(n) for n in self.wanted.split()[1].split(","))
        where = (".".join(map(str, octets)), high * 256 + low)
        self.sender = in_netns(self.lab.server.ns, lambda: socket.create_connection(where, 10))
        self.receiver, _ = self.data.accept()
        self.receiver.settimeout(10)
        self._say(self.sender, self.receiver, "data")


def test_ftp(firewalls, lab):
    """A helper reads a real connection, translates what it says, and expects the data where it was told."""
    fw1, fw2 = firewalls
    ftp = Ftp(lab)
    assert ftp.wanted.startswith(f"PORT {WAN_VIP.replace('.', ',')},"), "the helper has translated it"
    wait_for(lambda: count(fw1, "local", "expect") == 1, 10, "the expectation")
    wait_proof(fw2)
    before = wait_same({
        "conntrack of fw1": lambda: conntrack_expect(fw1, "text"),
        "local of fw1": lambda: same(show(fw1, "local", "expect")),
        "remote of fw2": lambda: same(show(fw2, "remote", "expect")),
    })
    assert len(before) == 1 and before[0].startswith(f"proto=6 src={SERVER} dst={WAN_VIP} ")
    assert f"master-src={LONGER} master-dst={SERVER} " in before[0]
    (expected,) = json.loads(show(fw2, "remote", "expect", "-o", "json"))
    assert expected["nat"]["port"] == ftp.data.getsockname()[1] and expected["function"] == "nat-follow-master"
    (master,) = json.loads(show(fw2, "remote", "-o", "json", "-p", "tcp", "--dport", "21"))
    assert master["helper"] == "ftp"
    assert master["seqadj"]["original"]["after"] == len(WAN_VIP) - len(LONGER)

    ftp.transfer()
    wait_for(lambda: count(fw1, "local", "expect") == 0, 10, "the expectation to be met")
    wait_for(lambda: count(fw1, "local", "-p", "tcp", "-s", SERVER) == 1, 10, "the data connection")
    wait_equal(fw2)
    takeover(fw2)
    wait_same({
        "conntrack of fw2": lambda: conntrack(fw2, "text"),
        "local of fw2": lambda: same(show(fw2, "local")),
    })
    (data,) = json.loads(show(fw2, "kernel", "-o", "json", "-p", "tcp", "-s", SERVER))
    assert "expected" in data["status"] and data["master"]["dport"] == 21


# -- verify ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("read_only")
def test_verify(firewalls):
    """Expectations that differ are listed as such, and found by the next look at the kernel."""
    fw1, fw2 = firewalls
    put_expectations(fw1)
    wait_proof(fw2)
    assert fw1.ctsync("verify").returncode == 0
    fw1.sysctl(net__netfilter__nf_conntrack_events=0)
    put(fw1, flow(control(9), helper="ftp"),
        expectation(Tuple(TCP, "203.0.113.21", "198.51.100.1", 0, 5009), control(9)))
    done = fw1.ctsync("verify", check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "expectation" in line]
    assert line.startswith("local: missing here: expectation proto=6 src=203.0.113.21 dst=198.51.100.1 sport=0 "
                           "dport=5009 "), line
    assert fw1.ctsync("verify").returncode == 0
    assert count(fw1, "local", "expect") == 7
    wait_for(lambda: count(fw2, "remote", "expect") == 7, 10, "the copy to have it")
