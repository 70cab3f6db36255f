# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that conntrack holds, in two kernels: protocol x family x translation x attribute.

Flows are made on fw1, by packets where that is possible; fw2 takes over; the two kernels'
tables are compared, field by field, and packets go on through fw2.
"""

import ipaddress
import re
import socket
import struct

import pytest

from ctnl import (ASSURED, CONFIRMED, DST_NAT, EXPECTED, FIXED_TIMEOUT, HELPER, SEEN_REPLY, SRC_NAT, Kernel, flatten, make_tuple,
                  show_tuple)
from lab import HERE, SERVER, SERVER6, WAN_VIP, WAN_VIP6, Lab, in_netns, wait_for
from packets import (ACK, ESP, FIN, GRE, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP, UDPLITE, Host,
                     Talk, quiet, sctp_chunk, udp)
from tools import takeover, wait_equal, wait_proof

OTHER = 253
PROTOCOLS = {"tcp": TCP, "udp": UDP, "udplite": UDPLITE, "sctp": SCTP, "icmp": ICMP, "gre": GRE,
             "esp": ESP, "other": OTHER}
LEFT_OUT = 0x77         # a mark that is not replicated
WITH_PORTS = (TCP, UDP, UDPLITE, SCTP)

# Kind of translation: the client's network, and what it connects to.
KINDS = {"none": (1, None), "source": (2, None), "destination": (6, 1), "both": (5, 1),
         "masquerade": (3, None)}
KINDS_OF_PORTS = {"source-port": (4, None), "destination-port": (1, 2)}
# Attribute: last four bits of the client's address (matrix.nft).
ATTRIBUTES = {"mark": 1, "labels": 2, "zone": 4, "zone-orig": 5, "zone-reply": 6, "all": 7}


def client_address(family, network, attribute=0):
    n = 16 * network + attribute
    return f"10.1.0.{n}" if family == 4 else f"fd00:1::1:{n:x}"


def target_address(family, number):
    if number is None:
        return SERVER if family == 4 else SERVER6
    return f"203.0.113.{number}" if family == 4 else f"2001:db8:f::{number}"


class Matrix:
    """The topology, with hosts that send and see packets, and the kernels of both firewalls."""

    def __init__(self, lab):
        self.lab, self.fw1, self.fw2 = lab, lab.fw1, lab.fw2
        self.names = {}             # original tuple, as text: what it is
        self.talks = {}
        lab.client.ip(*(f"addr add {client_address(4, n, a)}/24 dev lan0"
                        for n in range(1, 7) for a in (0, *ATTRIBUTES.values())),
                      *(f"addr add {client_address(6, n, a)}/64 dev lan0 nodad"
                        for n in range(1, 7) for a in (0, *ATTRIBUTES.values())))
        lab.server.ip(f"route add 10.1.0.0/24 via {WAN_VIP}", f"route add fd00:1::/64 via {WAN_VIP6}")
        for node in (lab.client, lab.server):
            quiet(node)
        for fw in (self.fw1, self.fw2):
            # nothing ends while the test runs
            names = fw.run("sysctl", "-N", "-a", "-r", r"nf_conntrack_.*timeout").stdout.split()
            fw.run("sysctl", "-q", "-w", *(f"{name}=600" for name in names))
            # Linux 6.18 checks UDPlite with the number of UDP, so that all of it is invalid.
            fw.sysctl(net__netfilter__nf_conntrack_checksum=0)
        self.take_addresses(self.fw1)
        self.client = Host(lab.client, "lan0")
        self.server = Host(lab.server, "wan0")
        self.kernel1, self.kernel2 = Kernel(self.fw1.ns), Kernel(self.fw2.ns)

    def take_addresses(self, fw):
        """What sources are translated to; masquerade takes none of these."""
        fw.ip(*(f"addr replace 192.0.2.{n}/24 dev wan0" for n in (*range(16, 24), *range(32, 40))),
              *(f"addr replace 2001:db8::1:{n:x}/64 dev wan0 nodad preferred_lft 0"
                for n in (*range(16, 24), *range(32, 40))))

    def close(self):
        self.client.close()
        self.server.close()

    def talk(self, name, proto, src, dst, a=5555, b=80):
        if proto not in WITH_PORTS:
            a, b = 4321, 0
        if proto == ICMP and ":" in src:
            proto = ICMPV6
        talk = Talk(self.client, self.server, proto, src, dst, a, b)
        self.talks[name] = talk
        return talk

    # -- comparing -----------------------------------------------------------------

    def start(self):
        for fw in (self.fw1, self.fw2):
            # a redirected flow ends on the firewall
            fw.start_ctsyncd(extra="filter = { skip_own = false; "
                             f'marks = {{ except = [ "{LEFT_OUT:#x}" ]; }}; }};')
        self.fw1.ctsync("takeover")
        self.fw2.wait_ready()

    def take_over(self):
        """fw2 takes over when it has everything; (flows, expectations) of fw1 and fw2."""
        wait_equal(self.fw2)        # what nobody has answered is told a little later
        wait_proof(self.fw2)
        before = self.kernel1.flows(), self.kernel1.expects()
        answer = takeover(self.fw2)
        assert answer["failed"] == 0, answer
        return before, (self.kernel2.flows(), self.kernel2.expects())

    def fail_over(self):
        """fw1 dies, and the addresses go to fw2."""
        self.fw1.kill()
        self.fw2.take_addresses()
        self.take_addresses(self.fw2)
        # only the virtual addresses are announced
        self.lab.server.run("ip", "neigh", "flush", "dev", "wan0")


# Fields that are not compared: what belongs to one kernel, and what cannot be written.
NOT_FLOW = ("id", "use", "timeout", "counters_orig", "counters_reply", "timestamp", "secmark", "secctx")
NOT_EXPECT = ("id", "timeout")
# Bits of the status that say what one kernel has looked at.
NAT_DONE = 0x180
# TCP flags until the windows are known again: BE_LIBERAL, DATA_UNACKNOWLEDGED, MAXACK_SET.
WINDOW_FLAGS = 0x38
WINDOW_SCALE = 0x01
SYN_SENT = 1


def comparable(flow):
    """One flow as {field: value}."""
    flow = {k: v for k, v in flow.items() if k not in NOT_FLOW}
    for name in ("synproxy", "seqadj_orig", "seqadj_reply"):
        # Made by ctnetlink an entry has room for these, filled with zeroes.
        if name in flow and not any(flow[name].values()):
            del flow[name]
    if not any(bytes.fromhex(flow.get("labels", ""))):
        flow.pop("labels", None)
    # Whoever writes a helper gets HELPER set, whoever inherits one does not.  A written GRE flow has a
    # fixed timeout, because the kernel ends it with its next packet otherwise.
    flow["status"] &= ~(NAT_DONE | (HELPER if "help" in flow else 0) |
                        (FIXED_TIMEOUT if flow["orig"]["proto"]["num"] == GRE else 0))
    fields = flatten(flow)
    if fields.get("protoinfo.tcp.state") == SYN_SENT:
        # The scale of the client is taken only if the server is said to scale, too.
        fields["protoinfo.tcp.flags_reply"] &= ~WINDOW_SCALE
    for name in ("protoinfo.tcp.flags_orig", "protoinfo.tcp.flags_reply"):
        if name in fields:
            fields[name] &= ~WINDOW_FLAGS
    return fields


def is_ours(flow):
    """Not the link between the firewalls."""
    return not any(flow["orig"]["ip"][k].startswith(("10.9.9.", "fd00:9:", "fe80:")) for k in ("src", "dst"))


def key_of(flow):
    zone = f" zone={flow['zone']}" if "zone" in flow else ""
    return show_tuple(flow["orig"]) + zone


def compared(ours, theirs, names, key, fields):
    """What is different, a line each."""
    a, b = ({key(e): fields(e) for e in entries} for entries in (ours, theirs))
    found = [f"{names.get(k, k)}: not taken over" for k in a.keys() - b.keys()]
    found += [f"{names.get(k, k)}: only after the takeover" for k in b.keys() - a.keys()]
    for k in a.keys() & b.keys():
        found += [f"{names.get(k, k)}: {f}: {a[k].get(f)} / {b[k].get(f)}"
                  for f in sorted(a[k].keys() | b[k].keys()) if a[k].get(f) != b[k].get(f)]
    return sorted(found)


def flow_differences(before, after, names):
    return compared(filter(is_ours, before[0]), filter(is_ours, after[0]), names, key_of, comparable)


def expect_key(expect):
    return f"{show_tuple(expect['tuple'])} of {show_tuple(expect['master'])}"


def expect_differences(before, after, names=()):
    def fields(expect):
        return flatten({k: v for k, v in expect.items() if k not in NOT_EXPECT})
    return compared(before[1], after[1], dict(names), expect_key, fields)


def fail_on(found):
    if found:
        pytest.fail(f"{len(found)} differences:\n" + "\n".join(found[:60]), pytrace=False)


@pytest.fixture
def matrix(bin_dir, request):
    with Lab(bin_dir, ruleset=HERE / "matrix.nft") as lab:
        made = Matrix(lab)
        made.start()
        request.node.funcargs["lab"] = lab      # its logs are shown when the test fails
        yield made
        made.close()


# -- by packets ----------------------------------------------------------------------

def begin(talk):
    """The flow comes into being."""
    if talk.proto == TCP:
        talk.tcp_open()
        talk.tcp_client(ACK | PSH, b"question")
        talk.tcp_server(ACK | PSH, b"answer")
        talk.tcp_client()
    elif talk.proto == SCTP:
        talk.sctp_open()
    else:
        talk.exchange()


def go_on(talk, both):
    """More packets of a flow that begin() made, also back."""
    if talk.proto == TCP:
        talk.tcp_client(ACK | PSH, b"more")
        if both:
            talk.tcp_server(ACK | PSH, b"yes")
    elif talk.proto == SCTP:
        talk.sctp_data(both)
    else:
        talk.exchange(both)


def cases():
    """Name, protocol, family, network of the client, target, attribute, what has to be seen of it."""
    for proto, number in PROTOCOLS.items():
        kinds = {**KINDS, **KINDS_OF_PORTS} if number in WITH_PORTS else KINDS
        for family in (4, 6):
            for kind, (network, target) in kinds.items():
                yield f"{proto} v{family} {kind}", number, family, network, target, None, kind
            for kind in ("none", "both"):
                network, target = KINDS[kind]
                for attribute in ATTRIBUTES:
                    yield (f"{proto} v{family} {kind} {attribute}", number, family, network, target,
                           attribute, kind)


NAT_BITS = {"none": 0, "source": SRC_NAT, "masquerade": SRC_NAT, "source-port": SRC_NAT,
            "destination": DST_NAT, "destination-port": DST_NAT, "both": SRC_NAT | DST_NAT}
LABELS = (1 | 1 << 127).to_bytes(16, "little").hex()
ATTRIBUTE_FIELDS = {
    None: {}, "mark": {"mark": 0x80001234}, "labels": {"labels": LABELS}, "zone": {"zone": 4},
    "zone-orig": {"orig.zone": 5}, "zone-reply": {"reply.zone": 6},
    "all": {"mark": 0x80001234, "labels": LABELS, "zone": 7}}


def flow_of(talk, flows):
    """The entry of a conversation, flattened."""
    ports = (talk.a, talk.b) if talk.proto in WITH_PORTS else None
    found = [f for f in map(flatten, flows)
             if (f["orig.proto.num"], f["orig.ip.src"], f["orig.ip.dst"]) == (talk.proto, talk.src, talk.dst) and
             ports in (None, (f.get("orig.proto.sport"), f.get("orig.proto.dport")))]
    return found[0] if len(found) == 1 else None


def missing(talk, flows, kind, attribute):
    """What the flow on fw1 lacks of what its case is about, as a line, or None."""
    flow = flow_of(talk, flows)
    if flow is None:
        return "there is no such flow"
    wanted = {"mark": 0, **ATTRIBUTE_FIELDS[attribute]}
    zones = ("zone", "orig.zone", "reply.zone", "labels")
    if any(flow.get(k) != wanted.get(k) for k in ("mark", *zones)):
        return f"is not as the ruleset wants it: {flow}"
    if flow["status"] & (SRC_NAT | DST_NAT) != NAT_BITS[kind]:
        return f"has status {flow['status']:#x}"
    return None


def test_packets(matrix):
    """Flows that packets made: the same in both kernels, and their packets go on."""
    talks, seen, wrong = {}, {}, []
    for name, number, family, network, target, attribute, _kind in cases():
        talk = matrix.talk(name, number, client_address(family, network, ATTRIBUTES.get(attribute, 0)),
                           target_address(family, target))
        begin(talk)
        talks[name], seen[name] = talk, talk.asked.addresses()
    before, after = matrix.take_over()
    for name, _number, _family, _network, _target, attribute, kind in cases():
        lack = missing(talks[name], before[0], kind, attribute)
        wrong += [f"{name}: {lack}"] if lack else []
    fail_on(wrong)
    fail_on(flow_differences(before, after, {}))

    matrix.fail_over()
    for name, talk in talks.items():
        # What fw1 masqueraded comes back to an address of fw1.
        go_on(talk, both="masquerade" not in name)
        if talk.asked.addresses() != seen[name]:
            wrong.append(f"{name}: {seen[name]} became {talk.asked.addresses()}")
    fail_on(wrong)
    known = {key_of(f) for f in before[0]}
    fail_on([f"new on fw2: {key_of(f)}" for f in filter(is_ours, matrix.kernel2.flows())
             if key_of(f) not in known])
    assert matrix.fw2.drops() == {"invalid": 0, "unknown": 0}


def test_redirect(matrix):
    """A flow to the firewall itself."""
    sockets = []
    for family, bound in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        sock = in_netns(matrix.fw1.ns, lambda f=family: socket.socket(f, socket.SOCK_DGRAM))
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.settimeout(5)
        sock.bind((bound, 7070))
        sockets.append(sock)
    for family, sock in zip((4, 6), sockets):
        with sock:
            talk = matrix.talk(f"redirect v{family}", UDP, client_address(family, 1),
                               target_address(family, 3))
            talk.client.send(talk.src, talk.dst, UDP, udp(talk.src, talk.dst, talk.a, talk.b, b"hello"))
            _data, where = sock.recvfrom(100)
            talk.client.forget()
            sock.sendto(b"answer", where)
            assert talk.client.see(lambda s, t=talk: (s.proto, s.src) == (UDP, t.dst)), talk
    before, after = matrix.take_over()
    for name, talk in matrix.talks.items():
        flow = flow_of(talk, before[0])
        assert flow["status"] & DST_NAT and flow["reply.proto.sport"] == 7070, (name, flow)
    fail_on(flow_differences(before, after, {}))


# -- states ------------------------------------------------------------------------------

def tcp_states(talk_for):
    """Connections in every state that packets lead to."""
    def opened(name, **options):
        talk = talk_for(name)
        talk.tcp_open(**options)
        return talk
    opened("SYN_SENT", steps=1)
    opened("SYN_RECV", steps=2)
    opened("ESTABLISHED")
    opened("ESTABLISHED, nobody scales", wscale=None)
    opened("ESTABLISHED, only the client scales", steps=1)
    talk_for.talk.tcp_server(SYN | ACK)
    talk_for.talk.tcp_client()
    opened("ESTABLISHED, scales 14 and 0", wscale=(14, 0))
    opened("ESTABLISHED, no selective acknowledgement", sack=False)
    opened("FIN_WAIT").tcp_client(FIN | ACK)
    opened("CLOSE_WAIT").tcp_client(FIN | ACK)
    talk_for.talk.tcp_server()
    opened("LAST_ACK").tcp_client(FIN | ACK)
    talk_for.talk.tcp_server()
    talk_for.talk.tcp_server(FIN | ACK)
    opened("TIME_WAIT").tcp_client(FIN | ACK)
    talk_for.talk.tcp_server()
    talk_for.talk.tcp_server(FIN | ACK)
    talk_for.talk.tcp_client()
    opened("closed by the server").tcp_server(FIN | ACK)
    talk_for.talk.tcp_client()
    opened("CLOSE").tcp_client(RST | ACK)
    opened("SYN_SENT2", steps=1)
    talk_for.talk.tcp_server(SYN)


def sctp_states(talk_for):
    """The same of SCTP associations."""
    for steps, name in enumerate(("COOKIE_WAIT", "COOKIE_WAIT, answered", "COOKIE_ECHOED",
                                  "ESTABLISHED"), 1):
        talk_for(name).sctp_open(steps)
    down, down_ack, done = sctp_chunk(7, bytes(4)), sctp_chunk(8), sctp_chunk(14)
    for name, chunks in {"SHUTDOWN_SENT": [(0, down)], "SHUTDOWN_RECD": [(1, down)],
                         "SHUTDOWN_ACK_SENT": [(0, down), (1, down_ack)],
                         "CLOSED": [(0, down), (1, down_ack), (0, done)],
                         "aborted": [(0, sctp_chunk(6))],
                         "heartbeat": [(0, sctp_chunk(4, b"beat")), (1, sctp_chunk(5, b"beat"))]}.items():
        talk = talk_for(name)
        talk.sctp_open()
        for who, chunk in chunks:
            (talk.sctp_server if who else talk.sctp_client)(chunk)
    talk_for("HEARTBEAT_SENT").sctp_client(sctp_chunk(4, b"beat"))
    talk_for("HEARTBEAT_SENT, answered").sctp_client(sctp_chunk(4, b"beat"))
    talk_for.talk.sctp_server(sctp_chunk(5, b"beat"))


class TalkFor:
    """One conversation for each state, with a port of its own."""

    def __init__(self, matrix, proto, family, network):
        self.matrix, self.proto, self.family, self.network = matrix, proto, family, network
        self.port = 10000
        self.talk = None

    def __call__(self, name):
        self.port += 1
        self.talk = self.matrix.talk(f"{self.proto} v{self.family} network {self.network} {name}",
                                     self.proto, client_address(self.family, self.network),
                                     target_address(self.family, None), self.port)
        return self.talk


def test_states(matrix):
    """TCP and SCTP in every state, and flows that nobody has answered yet."""
    for family in (4, 6):
        for network in (1, 2):
            tcp_states(TalkFor(matrix, TCP, family, network))
            sctp_states(TalkFor(matrix, SCTP, family, network))
            for proto in (UDP, UDPLITE, GRE, ESP, OTHER):
                TalkFor(matrix, proto, family, network)("unanswered").exchange(both=False)
    before, after = matrix.take_over()
    states = {(f["orig.proto.num"], f[k]) for f in map(flatten, before[0])
              for k in ("protoinfo.tcp.state", "protoinfo.sctp.state") if k in f}
    assert states >= {(TCP, n) for n in range(1, 10)} | {(SCTP, n) for n in range(1, 9)}
    names = {}
    for name, talk in matrix.talks.items():
        flow = flow_of(talk, before[0])
        assert flow is not None, name
        names[key_of(next(f for f in before[0] if f["id"] == flow["id"]))] = name
    fail_on(flow_differences(before, after, names))


# -- by ctnetlink ------------------------------------------------------------------------

def written(src, dst, num, sport=None, dport=None, reply=None, **more):
    """An entry as ctnetlink takes it; reply: with translation, where a reply comes from and goes to."""
    orig = make_tuple(src, dst, num, sport, dport)
    entry = {"orig": orig, "reply": make_tuple(dst, src, num, dport, sport),
             "status": CONFIRMED | SEEN_REPLY | ASSURED, "timeout": 600}
    if num == TCP:
        entry["protoinfo"] = {"tcp": {"state": 3, "wscale_orig": 7, "wscale_reply": 9,
                                      "flags_orig": 3, "flags_reply": 1}}
    entry.update(more)
    return entry


class Writer:
    """Writes flows of a client each, on fw1."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.names = {}
        self.count = 0

    def __call__(self, name, num, family=4, **more):
        self.count += 1
        src = f"100.64.{self.count >> 8}.{self.count & 255}" if family == 4 else f"2001:db8:64::{self.count:x}"
        dst = "198.18.0.1" if family == 4 else "2001:db8:18::1"
        ports = (1024 + self.count, 443) if num in (*WITH_PORTS, GRE) else (None, None)
        for field in ("orig", "reply"):
            if field in more:
                raise AssertionError("tuples are made here")
        zones = more.pop("zones", {})
        icmp = more.pop("icmp", None)
        entry = written(src, dst, num, *ports, **more)
        for direction, zone in zones.items():
            entry[direction]["zone"] = zone
        if icmp:
            prefix = "icmp" if family == 4 else "icmpv6"
            for direction, kind in zip(("orig", "reply"), icmp):
                entry[direction]["proto"].update({f"{prefix}_id": 77, f"{prefix}_type": kind,
                                                  f"{prefix}_code": 0})
        self.kernel.create(entry)
        self.names[key_of(entry)] = name
        return entry


def nat(address, port=None, which="nat_src"):
    proto = {} if port is None else {"proto": {"port_min": port, "port_max": port}}
    return {which: {"min": address, "max": address, **proto}}


def write_attributes(write, family):
    """What packets do not lead to, or not easily."""
    v6 = family == 6
    inside, outside = ("2001:db8:99::9", "2001:db8:88::8") if v6 else ("10.9.8.7", "203.0.113.77")
    write("mark of all bits", TCP, family, mark=0xffffffff)
    write("fixed timeout", UDP, family, status=CONFIRMED | SEEN_REPLY | ASSURED | FIXED_TIMEOUT)
    write("only confirmed", UDP, family, status=CONFIRMED)
    write("zone 65535", TCP, family, zone=65535)
    for direction in ("orig", "reply"):
        write(f"zone of the {direction} direction", TCP, family, zones={direction: 3})
        write(f"zone of the {direction} direction, translated", TCP, family, zones={direction: 3},
              **nat(outside, 5555))
    for scale in range(15):
        write(f"scale {scale}", TCP, family, protoinfo={"tcp": {
            "state": 3, "wscale_orig": scale, "wscale_reply": 14 - scale, "flags_orig": 1, "flags_reply": 3}})
    for bit in range(0, 128, 9):
        write(f"label {bit}", UDP, family, labels=(1 << bit).to_bytes(16, "little").hex(),
              labels_mask="ff" * 16)
    write("labels, all", UDP, family, labels="ff" * 16, labels_mask="ff" * 16)
    one, other = {"pos": 0x12345678, "before": 3, "after": 0xfffffff0}, {"pos": 9, "before": 0, "after": 7}
    write("sequences adjusted in one direction", TCP, family, seqadj_orig=one)
    write("in the other one", TCP, family, seqadj_reply=one)
    write("in both", TCP, family, seqadj_orig=one, seqadj_reply=other)
    write("adjusted, translated", TCP, family, seqadj_orig=one, **nat(outside, 4444))
    write("a SYN proxy", TCP, family, synproxy={"isn": 0xfedcba98, "its": 0x76543210, "tsoff": 0xffffff00})
    for state in range(1, 9):
        write(f"SCTP state {state}", SCTP, family, protoinfo={"sctp": {
            "state": state, "vtag_orig": 0xdeadbeef, "vtag_reply": 0x01020304}})
    for proto in (TCP, UDP, UDPLITE, SCTP):
        write(f"{proto}: ports mapped", proto, family, **nat(outside, 40001), **sctp_info(proto))
        write(f"{proto}: destination and port", proto, family, **nat(inside, 8080, "nat_dst"),
              **sctp_info(proto))
        write(f"{proto}: both", proto, family, **nat(outside, 40002), **nat(inside, 8081, "nat_dst"),
              **sctp_info(proto))
    for proto in (GRE, ESP, OTHER, 0, 255):
        write(f"{proto}: source", proto, family, **nat(outside))
        write(f"{proto}: destination", proto, family, **nat(inside, which="nat_dst"))
    icmp = ICMPV6 if v6 else ICMP
    for kinds in ((128, 129), (139, 140)) if v6 else ((8, 0), (13, 14), (15, 16), (17, 18)):
        write(f"ICMP {kinds}", icmp, family, icmp=kinds)
        write(f"ICMP {kinds}, source", icmp, family, icmp=kinds, **nat(outside, 999))


def sctp_info(proto):
    return {"protoinfo": {"sctp": {"state": 4, "vtag_orig": 1, "vtag_reply": 2}}} if proto == SCTP else {}


def write_related(write, family, **more):
    """Four generations, the youngest first in the order of the kernel's keys or not."""
    ancestor = write(f"no master {more}", TCP, family, **more)
    for generation in range(1, 5):
        master = {"master": ancestor["orig"]}
        for sibling in range(3):
            child = write(f"generation {generation}, {sibling} {more}", UDP if sibling else TCP, family,
                          **master, **more)
        ancestor = child


HELPERS = {4: (("ftp", TCP), ("irc", TCP), ("pptp", TCP), ("Q.931", TCP), ("sane", TCP), ("sip", TCP),
               ("sip", UDP), ("tftp", UDP), ("amanda", UDP), ("RAS", UDP), ("netbios-ns", UDP),
               ("snmp", UDP)),
           6: (("ftp", TCP), ("Q.931", TCP), ("sane", TCP), ("sip", TCP), ("sip", UDP), ("tftp", UDP),
               ("amanda", UDP), ("RAS", UDP))}


def expected_by(master, number, **more):
    """An expectation from the server to the client; more: other fields."""
    src, dst = master["orig"]["ip"]["dst"], master["orig"]["ip"]["src"]
    proto = more.pop("num", UDP)
    full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" if ":" in src else "255.255.255.255"
    expect = {"tuple": make_tuple(src, dst, proto, 0, number),
              "mask": make_tuple(full, full, proto, 0, 65535),
              "master": {k: v for k, v in master["orig"].items() if k != "zone"}, "timeout": 300}
    expect.update({"zone": master["zone"]} if "zone" in master else {})
    expect.update(more)
    return expect


def write_helpers(write, family):
    """A flow with each helper, and what each may expect."""
    address = "2001:db8:99::1" if family == 6 else "10.9.8.1"
    none = "::" if family == 6 else "0.0.0.0"
    for number, (name, proto) in enumerate(HELPERS[family], 2000):
        master = write(f"helper {name}", proto, family, help={"name": name})
        write(f"helper {name}, translated", proto, family, help={"name": name},
              **nat("2001:db8:88::9" if family == 6 else "203.0.113.9", number))
        if name == "snmp":
            continue                    # expects nothing
        write.kernel.create_expect(expected_by(master, number))
    sip = write("master of classes", UDP, family, help={"name": "sip"})
    for policy in range(4):
        write.kernel.create_expect(expected_by(sip, 3000 + policy, **{"class": policy}))
    ftp = write("master of others", TCP, family, help={"name": "ftp"})
    names = ("nat-follow-master", "sip") if family == 6 else ("nat-follow-master", "sip", "Q.931", "callforwarding")
    for n, more in enumerate((
            {"flags": 1}, {"flags": 2}, {"flags": 3}, {"num": TCP}, *({"fn": name} for name in names),
            *({"fn": "nat-follow-master",
               "nat": {"dir": way, "tuple": make_tuple(address, none, TCP, 99 + way, 0)}} for way in (0, 1)))):
        master = write(f"master {n}", TCP, family, help={"name": "ftp"})
        write.kernel.create_expect(expected_by(master, 4000 + n, **more))
    some = expected_by(ftp, 5000)
    some["mask"]["ip"]["src"] = none
    write.kernel.create_expect(some)
    some = expected_by(write("master of a port", TCP, family, help={"name": "ftp"}), 5001)
    some["tuple"]["proto"]["sport"], some["mask"]["proto"]["sport"] = 20, 65535
    write.kernel.create_expect(some)


def write_expected_in_zones(write, family):
    """Masters in zones, some with the same tuple, and what each expects; the kernel does not show its zone.

    An expectation is made in the zone that its master has in the original direction, and found in
    its master's zone, whatever the direction.  Returns the expectations in the zone they are found in.
    """
    made = []

    def expected(master, number, made_in, found_in):
        expect = expected_by(master, number)
        write.kernel.create_expect({**expect, "zone": made_in})
        made.append({**expect, "zone": found_in})

    for number, (field, value, made_in) in enumerate((("zone", 9, 9), ("zones", {"orig": 9}, 9),
                                                      ("zones", {"reply": 9}, 0)), 6000):
        master = write(f"master in {field} {value}", TCP, family, help={"name": "ftp"}, **{field: value})
        expected(master, number, made_in, 9)
    for number in (6010, 6011):
        master = write("master in two zones", TCP, family, help={"name": "ftp"})
        write.kernel.create({**master, "zone": 11})
        write.names[key_of({**master, "zone": 11})] = "the other master"
        expected(master, number, 11, 11)
        if number == 6010:
            expected(master, number, 0, 0)
    return made


def test_written(matrix):
    """Every attribute that ctnetlink takes."""
    write = Writer(matrix.kernel1)
    zoned = []
    for family in (4, 6):
        write_attributes(write, family)
        write_related(write, family)
        write_related(write, family, zone=9)
        write_helpers(write, family)
        zoned += write_expected_in_zones(write, family)
    before, after = matrix.take_over()
    assert len(before[0]) >= write.count and len(before[1]) >= 30
    assert len(before[1]) == len(after[1])
    fail_on(flow_differences(before, after, write.names) + expect_differences(before, after))
    for expect in zoned:
        matrix.kernel1.get_expect(expect)
        matrix.kernel2.get_expect(expect)


# -- helpers --------------------------------------------------------------------------------

def commas(address, port):
    return ",".join([*address.split("."), str(port >> 8), str(port & 255)]).encode()


def ftp_session(matrix, name, family, network, target, active):
    """A control connection on which a port is told; it, and what the other side heard.

    The helper expects one data connection at a time.
    """
    talk = matrix.talk(f"ftp {name}", TCP, client_address(family, network), target_address(family, target),
                       6001 + active, 21)
    talk.tcp_open()
    talk.tcp_server(ACK | PSH, b"220 ready\r\n")
    talk.tcp_client(ACK | PSH, b"USER x\r\n")       # the helper wants to have seen the end of a line
    if active:
        port = commas(talk.src, 10001) if family == 4 else b"|2|%s|10001|" % talk.src.encode()
        return talk, talk.tcp_client(ACK | PSH, (b"PORT %s\r\n" if family == 4 else b"EPRT %s\r\n") % port)[3]
    talk.tcp_client(ACK | PSH, b"PASV\r\n" if family == 4 else b"EPSV\r\n")
    if family == 4:
        said = b"227 Entering Passive Mode (%s).\r\n" % commas(SERVER, 10002)
    else:
        said = b"229 Entering Extended Passive Mode (|||10002|)\r\n"
    return talk, talk.tcp_server(ACK | PSH, said)[3]


def port_in(heard, family, peer):
    """Address and port in a command or an answer."""
    if family == 4:
        numbers = [int(n) for n in re.search(rb"(\d+,){5}\d+", heard).group().split(b",")]
        return ".".join(map(str, numbers[:4])), numbers[4] << 8 | numbers[5]
    address, port = re.search(rb"\|(?:2\|([0-9a-f:]+)|\|)\|(\d+)\|", heard).groups()
    return str(ipaddress.ip_address(address.decode())) if address else peer, int(port)


def irc_session(matrix, name, network):
    talk = matrix.talk(f"irc {name}", TCP, client_address(4, network), SERVER, 6012, 6667)
    talk.tcp_open()
    address = struct.unpack("!I", socket.inet_aton(talk.src))[0]
    talk.tcp_client(ACK | PSH, b"PRIVMSG you :\1DCC SEND file %d 10003 42\1\r\n" % address)


def sane_session(matrix, name, family, network):
    talk = matrix.talk(f"sane {name}", TCP, client_address(family, network), target_address(family, None),
                       6003, 6566)
    talk.tcp_open()
    talk.tcp_client(ACK | PSH, struct.pack("!II", 7, 0))
    talk.tcp_server(ACK | PSH, struct.pack("!IHH", 0, 0, 10004) + bytes(4))


def amanda_session(matrix, name, family, network):
    talk = matrix.talk(f"amanda {name}", UDP, client_address(family, network), target_address(family, None),
                       6004, 10080)
    talk.exchange()
    said = b"Amanda 2.6 REP HANDLE 1 SEQ 2\nCONNECT DATA 10005 MESG 10006 INDEX 10007\nOPTIONS ;\n"
    talk.answer(lambda s, d, a, b: udp(s, d, a, b, said))


def tftp_session(matrix, name, family, network, target):
    talk = matrix.talk(f"tftp {name}", UDP, client_address(family, network), target_address(family, target),
                       6005, 69)
    talk.ask(lambda s, d, a, b: udp(s, d, a, b, b"\0\1file\0octet\0"))
    return talk


def sip_session(matrix, name, family, network):
    talk = matrix.talk(f"sip {name}", UDP, client_address(family, network), target_address(family, None),
                       5060, 5060)
    kind, host = ("IP4", talk.src) if family == 4 else ("IP6", talk.src)
    bracketed = host if family == 4 else f"[{host}]"
    body = (f"v=0\r\no=- 1 1 IN {kind} {host}\r\ns=-\r\nc=IN {kind} {host}\r\nt=0 0\r\n"
            "m=audio 10008 RTP/AVP 0\r\n")
    head = (f"INVITE sip:you@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {bracketed}:5060;branch=z9hG4bK1\r\n"
            f"From: <sip:me@{bracketed}>;tag=1\r\nTo: <sip:you@example.org>\r\nCall-ID: {name}@x\r\n"
            f"CSeq: 1 INVITE\r\nContact: <sip:me@{bracketed}:5060>\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    talk.ask(lambda s, d, a, b: udp(s, d, a, b, (head + body).encode()))


def pptp_message(kind, body):
    return struct.pack("!HHIHH", 12 + len(body), 1, 0x1a2b3c4d, kind, 0) + body


def pptp_session(matrix, name, network):
    """As far as both sides have told their call ids."""
    talk = matrix.talk(f"pptp {name}", TCP, client_address(4, network), SERVER, 6006, 1723)
    talk.tcp_open()
    talk.tcp_client(ACK | PSH, pptp_message(1, struct.pack("!HHIIHH", 256, 0, 1, 1, 0, 0) + bytes(128)))
    talk.tcp_server(ACK | PSH, pptp_message(2, struct.pack("!HBBIIHH", 256, 1, 0, 1, 1, 0, 0) + bytes(128)))
    heard = talk.tcp_client(ACK | PSH, pptp_message(7, struct.pack("!HHIIIIHHHH", 111, 1, 300, 9999, 3, 3, 64,
                                                                   0, 0, 0) + bytes(128)))[3]
    call = struct.unpack_from("!H", heard, 12)[0]       # what it was translated to
    talk.tcp_server(ACK | PSH, pptp_message(8, struct.pack("!HHBBHIHHI", 222, call, 1, 0, 0, 9999, 64, 0, 0)))


def helper_sessions(matrix):
    """Sessions whose helpers expect something; [(control connection, address, port, by the server), ...]."""
    wanted = []
    for family in (4, 6):
        for kind in ("none", "source", "both"):
            name, (network, target) = f"v{family} {kind}", KINDS[kind]
            for active in (True, False):
                talk, heard = ftp_session(matrix, f"{name} {active}", family, network, target, active)
                wanted.append((talk, *port_in(heard, family, talk.dst), active))
            tftp_session(matrix, name, family, network, target)
        for kind in ("none", "source"):
            name, network = f"v{family} {kind}", KINDS[kind][0]
            sane_session(matrix, name, family, network)
            amanda_session(matrix, name, family, network)
            sip_session(matrix, name, family, network)
            if family == 4:
                irc_session(matrix, name, network)
                pptp_session(matrix, name, network)
    return wanted


def register(matrix, name, family, network):
    """A telephone registers; from then on calls are expected.  The address that the server knows."""
    talk = matrix.talk(f"register {name}", UDP, client_address(family, network), target_address(family, None),
                       5060, 5060)
    host = talk.src if family == 4 else f"[{talk.src}]"

    def message(first, via, sender, contact, tag):
        return (f"{first}\r\nVia: {via}\r\nFrom: {sender}\r\nTo: <sip:me@example.org>{tag}\r\n"
                f"Call-ID: {name}@x\r\nCSeq: 1 REGISTER\r\nContact: {contact}\r\n"
                "Content-Length: 0\r\n\r\n").encode()
    asked = message("REGISTER sip:example.org SIP/2.0", f"SIP/2.0/UDP {host}:5060;branch=z9hG4bK1",
                    f"<sip:me@{host}>;tag=1", f"<sip:me@{host}:5060>;expires=600", "")
    seen = talk.ask(lambda s, d, a, b: udp(s, d, a, b, asked)).data[8:].decode()
    heard = {field: re.search(rf"{field}: (.*)\r\n", seen).group(1) for field in ("Via", "From", "Contact")}
    answer = message("SIP/2.0 200 OK", heard["Via"], heard["From"], heard["Contact"], ";tag=2")
    talk.answer(lambda s, d, a, b: udp(s, d, a, b, answer))
    return talk, re.search(r"@\[?([0-9a-f.:]+?)\]?:5060", heard["Contact"]).group(1)


def test_registrations(matrix):
    """Calls come in after the takeover, although no event tells that they are expected."""
    telephones = [register(matrix, f"v{family} {network}", family, network) for family in (4, 6) for network in (1, 2)]
    expected = matrix.kernel1.expects()
    # permanent, active, and for as long as the registration lasts
    assert len(expected) == len(telephones) and {e["flags"] for e in expected} == {1}

    def replicated():
        takeover(matrix.fw2, "commit")
        return not expect_differences((None, expected), (None, matrix.kernel2.expects()))
    wait_for(replicated, 20, "the registrations to be active on fw2", 0.1)
    assert all(e["timeout"] > 500 for e in matrix.kernel2.expects())
    matrix.take_over()
    matrix.fail_over()
    for telephone, address in telephones:
        call = Talk(matrix.server, matrix.client, UDP, peer_of(telephone), address, 5070, 5060)
        seen = call.ask(lambda s, d, a, b: udp(s, d, a, b, b"OPTIONS sip:me SIP/2.0\r\n\r\n"))
        assert (seen.dst, seen.b) == (telephone.src, 5060)
        call.answer(lambda s, d, a, b: udp(s, d, a, b, b"SIP/2.0 200 OK\r\n\r\n"))
    assert len([f for f in matrix.kernel2.flows() if "master" in f]) == len(telephones)


def test_helpers(matrix):
    """What helpers expect, and the sequence numbers that they adjust; used after the takeover."""
    wanted = helper_sessions(matrix)
    before, after = matrix.take_over()
    expected = {e["help_name"] for e in before[1]}
    assert expected >= {"ftp", "tftp", "sane", "amanda", "sip", "irc", "pptp"}
    fail_on(flow_differences(before, after, {}) + expect_differences(before, after))

    matrix.fail_over()
    for control, address, port, by_server in wanted:
        go_on(control, both=True)
        if by_server:
            peer = SERVER if ":" not in address else SERVER6
            data = Talk(matrix.server, matrix.client, TCP, peer, address, 20, port)
            target = (control.src, 10001)
        else:
            data = Talk(matrix.client, matrix.server, TCP, control.src, address, 6020, port)
            target = (peer_of(control), 10002)
        data.tcp_open()
        assert (data.asked.dst, data.asked.b) == target, f"{data} arrived at {data.asked}"
    masters = {key_of(f): f for f in matrix.kernel2.flows()}
    related = [f for f in masters.values() if "master" in f]
    assert len(related) == len(wanted)
    assert all(f["status"] & EXPECTED for f in related)
    assert matrix.fw2.drops() == {"invalid": 0, "unknown": 0}


def peer_of(talk):
    return SERVER6 if ":" in talk.src else SERVER


def test_what_cannot_be_kept(matrix):
    """A missing master, or a ruleset without labels, costs these and not the flow, and is counted."""
    write = Writer(matrix.kernel1)
    # The filter leaves the mark out, so that these masters are not replicated.
    master = write("left out", TCP, help={"name": "ftp"}, mark=LEFT_OUT)
    write.kernel.create_expect(expected_by(master, 2000))
    orphans = [write("an orphan", UDP, master=master["orig"]) for _ in range(3)]
    labelled = [write("with labels", UDP, labels="0f" * 16, labels_mask="ff" * 16) for _ in range(70)]
    text = "\n".join(line for line in matrix.lab.ruleset.read_text().splitlines() if "ct label" not in line)
    matrix.fw2.run("nft", "-f", "-", input="flush ruleset\n" + text)
    wait_equal(matrix.fw2)
    answer = takeover(matrix.fw2)
    assert (answer["failed"], answer["without_master"], answer["without_labels"]) == (0, 3, 70)
    assert [matrix.kernel2.get(flow).get("master") for flow in orphans] == [None] * 3
    assert [matrix.kernel2.get(flow).get("labels") for flow in labelled] == [None] * 70
    assert matrix.kernel2.expects() == []
    with pytest.raises(FileNotFoundError):
        matrix.kernel2.get(master)
    # And fw2 knows what it has now, and fw1 learns that.
    wait_proof(matrix.fw1)
    listed = matrix.fw1.ctsync("--json", "show", "remote").stdout
    assert "labels" not in listed and "master" not in listed
