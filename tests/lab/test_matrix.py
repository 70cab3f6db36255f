# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that conntrack holds, in two kernels: protocol x family x translation x attribute.

Flows are made on fw1, by packets where that is possible; fw2 takes over; the two kernels'
tables are compared, field by field, and packets go on through fw2.
"""

import contextlib
import socket

import pytest

from ctnl import (ASSURED, CONFIRMED, DST_NAT, HELPER, SEEN_REPLY, SRC_NAT, Kernel, flatten, make_tuple,
                  show_tuple)
from lab import HERE, SERVER, SERVER6, WAN_VIP, WAN_VIP6, Lab, in_netns
from packets import (ACK, ESP, FIN, GRE, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP, UDPLITE, Host,
                     Talk, quiet, sctp_chunk)
from tools import takeover, wait_proof

OTHER = 253
PROTOCOLS = {"tcp": TCP, "udp": UDP, "udplite": UDPLITE, "sctp": SCTP, "icmp": ICMP, "gre": GRE,
             "esp": ESP, "other": OTHER}
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
            fw.start_ctsyncd()
        self.fw1.ctsync("takeover")
        self.fw2.wait_ready()

    def take_over(self):
        """fw2 takes over when it has everything; (flows, expectations) of fw1 and fw2."""
        wait_proof(self.fw2)
        before = self.kernel1.flows(), self.kernel1.expects()
        answer = takeover(self.fw2)
        assert answer["failed"] == 0, answer
        return before, (self.kernel2.flows(), self.kernel2.expects())


# Fields that are not compared: what belongs to one kernel, and what cannot be written.
NOT_FLOW = ("id", "use", "timeout", "counters_orig", "counters_reply", "timestamp", "secmark", "secctx")
NOT_EXPECT = ("id", "timeout")
# Bits of the status that say what one kernel has looked at.
NAT_DONE = 0x180
# TCP flags until the windows are known again: BE_LIBERAL, DATA_UNACKNOWLEDGED, MAXACK_SET.
WINDOW_FLAGS = 0x38


def comparable(flow):
    """One flow as {field: value}."""
    flow = {k: v for k, v in flow.items() if k not in NOT_FLOW}
    for name in ("synproxy", "seqadj_orig", "seqadj_reply"):
        # Made by ctnetlink an entry has room for these, filled with zeroes.
        if name in flow and not any(flow[name].values()):
            del flow[name]
    if not any(bytes.fromhex(flow.get("labels", ""))):
        flow.pop("labels", None)
    # Whoever writes a helper gets HELPER set, whoever inherits one does not.
    flow["status"] &= ~(NAT_DONE | (HELPER if "help" in flow else 0))
    fields = flatten(flow)
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

def begin(talk, both=True):
    """The flow comes into being."""
    if talk.proto == TCP:
        talk.tcp_open()
        talk.tcp_client(ACK | PSH, b"question")
        talk.tcp_server(ACK | PSH, b"answer")
        talk.tcp_client()
    elif talk.proto == SCTP:
        talk.sctp_open()
    else:
        talk.exchange(both)


def go_on(talk, both=True):
    """More packets of a flow that begin() made."""
    if talk.proto == TCP:
        talk.tcp_client(ACK | PSH, b"more")
        if both:
            talk.tcp_server(ACK | PSH, b"yes")
    elif talk.proto == SCTP:
        talk.sctp_data(both)
    else:
        talk.exchange(both)


def by_packets(matrix):
    """{name: Talk}, each established."""
    cases = [(f"{proto} v{family} {kind}", number, family, *KINDS[kind], 0)
             for proto, number in PROTOCOLS.items() for family in (4, 6) for kind in KINDS]
    cases += [(f"{proto} v{family} {kind}", number, family, *KINDS_OF_PORTS[kind], 0)
              for proto, number in PROTOCOLS.items() if number in WITH_PORTS
              for family in (4, 6) for kind in KINDS_OF_PORTS]
    cases += [(f"{proto} v{family} {kind} {attribute}", number, family, *KINDS[kind], bits)
              for proto, number in PROTOCOLS.items() for family in (4, 6)
              for kind in ("none", "both") for attribute, bits in ATTRIBUTES.items()]
    for name, number, family, network, target, bits in cases:
        talk = matrix.talk(name, number, client_address(family, network, bits),
                           target_address(family, target))
        begin(talk)
    return matrix.talks


def test_packets(matrix):
    """Flows that packets made: the same in both kernels, and their packets go on."""
    talks = by_packets(matrix)
    before, after = matrix.take_over()
    fail_on(flow_differences(before, after, {}))
