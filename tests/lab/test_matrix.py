# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that conntrack holds, in two kernels: protocol x family x translation x attribute.

Flows are made on fw1, by packets where that is possible; fw2 takes over; the two kernels'
tables are compared, field by field, and packets go on through fw2.
"""

import socket

import pytest

from ctnl import (ASSURED, CONFIRMED, DST_NAT, FIXED_TIMEOUT, SEEN_REPLY, SRC_NAT, flatten, make_tuple)
from lab import in_netns
from matrix import (ATTRIBUTES, KINDS, KINDS_OF_PORTS, LEFT_OUT, OTHER, PROTOCOLS, WITH_PORTS, begin,
                    client_address, fail_on, flow_of, go_on, is_ours, key_of,
                    target_address)
from packets import (ACK, ESP, FIN, GRE, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP, UDPLITE,
                     sctp_chunk, udp)
from tools import takeover, wait_equal, wait_proof

# -- by packets ----------------------------------------------------------------------

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


def missing(talk, flows, kind, attribute):
    """What the flow on fw1 lacks of what its case is about, as a line, or None."""
    flow = flow_of(talk, flows)
    if flow is None:
        return "there is no such flow"
    fields, wanted = flatten(flow), {"mark": 0, **ATTRIBUTE_FIELDS[attribute]}
    if any(fields.get(k) != wanted.get(k) for k in ("mark", "labels", "zone", "orig.zone", "reply.zone")):
        return f"is not as the ruleset wants it: {fields}"
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
    matrix.assert_equal(before, after)

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
        assert flow["status"] & DST_NAT and flow["reply"]["proto"]["sport"] == 7070, (name, flow)
    matrix.assert_equal(before, after)


# -- states ------------------------------------------------------------------------------

CLIENT, SERVER = 0, 1
# What leads to a state: how the connection is opened, and who sends what after that.
TCP_STATES = {
    "SYN_SENT": ({"steps": 1}, ()),
    "SYN_RECV": ({"steps": 2}, ()),
    "ESTABLISHED": ({}, ()),
    "nobody scales": ({"wscale": None}, ()),
    "only the client scales": ({"steps": 1}, ((SERVER, SYN | ACK), (CLIENT, ACK))),
    "scales 14 and 0": ({"wscale": (14, 0)}, ()),
    "no selective acknowledgement": ({"sack": False}, ()),
    "FIN_WAIT": ({}, ((CLIENT, FIN | ACK),)),
    "CLOSE_WAIT": ({}, ((CLIENT, FIN | ACK), (SERVER, ACK))),
    "LAST_ACK": ({}, ((CLIENT, FIN | ACK), (SERVER, ACK), (SERVER, FIN | ACK))),
    "TIME_WAIT": ({}, ((CLIENT, FIN | ACK), (SERVER, ACK), (SERVER, FIN | ACK), (CLIENT, ACK))),
    "closed by the server": ({}, ((SERVER, FIN | ACK), (CLIENT, ACK))),
    "CLOSE": ({}, ((CLIENT, RST | ACK),)),
    "SYN_SENT2": ({"steps": 1}, ((SERVER, SYN),)),
}
SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE, ABORT = sctp_chunk(7, bytes(4)), *map(sctp_chunk, (8, 14, 6))
HEARTBEAT, HEARTBEAT_ACK = (sctp_chunk(kind, b"beat") for kind in (4, 5))
# The same: the steps of the handshake.
SCTP_STATES = {
    "COOKIE_WAIT": (1, ()),
    "COOKIE_WAIT, answered": (2, ()),
    "COOKIE_ECHOED": (3, ()),
    "ESTABLISHED": (4, ()),
    "SHUTDOWN_SENT": (4, ((CLIENT, SHUTDOWN),)),
    "SHUTDOWN_RECD": (4, ((SERVER, SHUTDOWN),)),
    "SHUTDOWN_ACK_SENT": (4, ((CLIENT, SHUTDOWN), (SERVER, SHUTDOWN_ACK))),
    "CLOSED": (4, ((CLIENT, SHUTDOWN), (SERVER, SHUTDOWN_ACK), (CLIENT, SHUTDOWN_COMPLETE))),
    "aborted": (4, ((CLIENT, ABORT),)),
    "heartbeat": (4, ((CLIENT, HEARTBEAT), (SERVER, HEARTBEAT_ACK))),
    "HEARTBEAT_SENT": (0, ((CLIENT, HEARTBEAT),)),
    "HEARTBEAT_SENT, answered": (0, ((CLIENT, HEARTBEAT), (SERVER, HEARTBEAT_ACK))),
}


def lead_to_states(matrix, family, network):
    """A conversation for each state, and some that nobody answers."""
    count = 0

    def talk(proto, name):
        nonlocal count
        count += 1
        return matrix.talk(f"{proto} v{family} network {network} {name}", proto,
                           client_address(family, network), target_address(family, None), 10000 + count)
    for name, (options, segments) in TCP_STATES.items():
        made = talk(TCP, name)
        made.tcp_open(**options)
        for who, flags in segments:
            (made.tcp_server if who else made.tcp_client)(flags)
    for name, (steps, chunks) in SCTP_STATES.items():
        made = talk(SCTP, name)
        made.sctp_open(steps)
        for who, chunk in chunks:
            (made.sctp_server if who else made.sctp_client)(chunk)
    for proto in (UDP, UDPLITE, GRE, ESP, OTHER):
        talk(proto, "unanswered").exchange(both=False)


def test_states(matrix):
    """TCP and SCTP in every state, and flows that nobody has answered yet."""
    for family in (4, 6):
        for network in (1, 2):
            lead_to_states(matrix, family, network)
    before, after = matrix.take_over()
    states = {(f["orig.proto.num"], f[k]) for f in map(flatten, before[0])
              for k in ("protoinfo.tcp.state", "protoinfo.sctp.state") if k in f}
    assert states >= {(TCP, n) for n in range(1, 10)} | {(SCTP, n) for n in range(1, 9)}
    matrix.assert_equal(before, after)

    # A connection that was about to be answered.
    matrix.fail_over()
    for name, talk in matrix.talks.items():
        if name.endswith(" SYN_SENT"):
            talk.tcp_open(first=1)
            talk.tcp_client(ACK | PSH, b"question")
            tcp = flow_of(talk, matrix.kernel2.flows())["protoinfo"]["tcp"]
            assert (tcp["wscale_orig"], tcp["wscale_reply"]) == (7, 5), name
    assert matrix.fw2.drops() == {"invalid": 0, "unknown": 0}


# -- by ctnetlink ------------------------------------------------------------------------

class Writer:
    """Writes flows of a client each, on fw1."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.names = {}             # key_of(flow): what it is
        self.count = 0

    def __call__(self, name, num, family=4, zones=(), icmp=(), **more):
        """Write a flow, and return it.

        zones: {"orig": zone} or {"reply": zone}; icmp: types of both directions; more: other fields.
        """
        self.count += 1
        src = f"100.64.{self.count >> 8}.{self.count & 255}" if family == 4 else f"2001:db8:64::{self.count:x}"
        dst = "198.18.0.1" if family == 4 else "2001:db8:18::1"
        ports = (1024 + self.count, 443) if num in (*WITH_PORTS, GRE) else (None, None)
        entry = {"orig": make_tuple(src, dst, num, *ports), "reply": make_tuple(dst, src, num, *ports[::-1]),
                 "status": CONFIRMED | SEEN_REPLY | ASSURED, "timeout": 600}
        if num == TCP:
            entry["protoinfo"] = {"tcp": {"state": 3, "wscale_orig": 7, "wscale_reply": 9,
                                          "flags_orig": 3, "flags_reply": 1}}
        entry.update(more)
        for direction, zone in dict(zones).items():
            entry[direction]["zone"] = zone
        prefix = "icmp" if family == 4 else "icmpv6"
        for direction, kind in zip(("orig", "reply"), icmp):
            entry[direction]["proto"].update({f"{prefix}_id": 77, f"{prefix}_type": kind, f"{prefix}_code": 0})
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
    """Flows with masters, which have masters, in four generations of three siblings."""
    master = write(f"no master {more}", TCP, family, **more)
    for generation in range(1, 5):
        siblings = [write(f"generation {generation} {more}", proto, family, master=master["orig"], **more)
                    for proto in (TCP, UDP, UDP)]
        master = siblings[-1]


HELPERS = {4: (("ftp", TCP), ("irc", TCP), ("pptp", TCP), ("Q.931", TCP), ("sane", TCP), ("sip", TCP),
               ("sip", UDP), ("tftp", UDP), ("amanda", UDP), ("RAS", UDP), ("netbios-ns", UDP),
               ("snmp", UDP)),
           6: (("ftp", TCP), ("Q.931", TCP), ("sane", TCP), ("sip", TCP), ("sip", UDP), ("tftp", UDP),
               ("amanda", UDP), ("RAS", UDP))}


def expected_by(master, number, proto=UDP, **more):
    """An expectation from the server to a port of the client; more: other fields."""
    src, dst = master["orig"]["ip"]["dst"], master["orig"]["ip"]["src"]
    full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" if ":" in src else "255.255.255.255"
    return {"tuple": make_tuple(src, dst, proto, 0, number), "mask": make_tuple(full, full, proto, 0, 65535),
            "master": {k: v for k, v in master["orig"].items() if k != "zone"}, "timeout": 300, **more}


def write_helpers(write, family):
    """A flow with each helper, and what each may expect."""
    address, outside, none = ("2001:db8:99::1", "2001:db8:88::9", "::") if family == 6 else \
        ("10.9.8.1", "203.0.113.9", "0.0.0.0")
    for number, (name, proto) in enumerate(HELPERS[family], 2000):
        master = write(f"helper {name}", proto, family, help={"name": name})
        write(f"helper {name}, translated", proto, family, help={"name": name}, **nat(outside, number))
        if name != "snmp":              # expects nothing
            write.kernel.create_expect(expected_by(master, number))
    sip = write("master of classes", UDP, family, help={"name": "sip"})
    for policy in range(4):
        write.kernel.create_expect(expected_by(sip, 3000 + policy, **{"class": policy}))
    variants = [{"flags": flags} for flags in (1, 2, 3)] + [{"proto": TCP}]
    variants += [{"fn": name} for name in ("nat-follow-master", "sip", "Q.931", "callforwarding")]
    variants += [{"fn": "nat-follow-master",
                  "nat": {"dir": way, "tuple": make_tuple(address, none, TCP, 99 + way, 0)}} for way in (0, 1)]
    for number, more in enumerate(variants, 4000):
        master = write(f"master {number}", TCP, family, help={"name": "ftp"})
        write.kernel.create_expect(expected_by(master, number, **more))
    from_anywhere, from_a_port = (
        expected_by(write(f"master {number}", TCP, family, help={"name": "ftp"}), number)
        for number in (5000, 5001))
    from_anywhere["mask"]["ip"]["src"] = none
    from_a_port["tuple"]["proto"]["sport"], from_a_port["mask"]["proto"]["sport"] = 20, 65535
    write.kernel.create_expect(from_anywhere)
    write.kernel.create_expect(from_a_port)


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


@pytest.mark.smoke
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
    matrix.assert_equal(before, after, write.names)
    for expect in zoned:
        matrix.kernel1.get_expect(expect)
        matrix.kernel2.get_expect(expect)


def test_changed(matrix):
    """What changes on fw1 changes what fw2 has in its kernel already."""
    write = Writer(matrix.kernel1)
    entries = []
    news = {TCP: {"tcp": {"state": 4}}, SCTP: {"sctp": {"state": 5, "vtag_orig": 1, "vtag_reply": 3}}, UDP: {}}
    for family in (4, 6):
        for proto, info in news.items():
            entry = write(f"{proto} v{family}", proto, family, mark=1, labels="01" + "00" * 15,
                          **(sctp_info(SCTP) if proto == SCTP else {}))
            entries.append((entry, info))
    wait_equal(matrix.fw2)
    assert takeover(matrix.fw2, "commit")["created"] >= len(entries)
    for entry, info in entries:
        change = {"orig": entry["orig"], "mark": 2, "labels": "0200" + "ff" * 14, "labels_mask": "ff" * 16}
        change.update({"protoinfo": info} if info else {})
        if "tcp" in info:
            change.update(seqadj_orig={"pos": 5, "before": 6, "after": 7},
                          synproxy={"isn": 8, "its": 9, "tsoff": 10})
        matrix.kernel1.create(change, flags=0)
    before, after = matrix.take_over()
    matrix.assert_equal(before, after, write.names)
    changed = [flatten(f) for f in after[0] if f["mark"] == 2]
    assert {f["labels"] for f in changed} == {"0200" + "ff" * 14} and len(changed) == len(entries)
    assert [f["synproxy.isn"] for f in changed if f.get("seqadj_orig.after") == 7] == [8, 8]


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
