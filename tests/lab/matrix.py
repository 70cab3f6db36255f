# SPDX-License-Identifier: GPL-3.0-or-later
"""What test_matrix.py and test_helpers.py share: flows of every kind, and two kernels to compare.

The ruleset is matrix.nft: the address of a client says how its packets are translated and
what its flows are marked with.
"""

import pytest

from ctnl import FIXED_TIMEOUT, HELPER, Kernel, flatten, show_tuple
from lab import SERVER, SERVER6, WAN_VIP, WAN_VIP6
from packets import ACK, ESP, GRE, ICMP, ICMPV6, PSH, SCTP, TCP, UDP, UDPLITE, Host, Talk, quiet
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
        self.talks = {}             # name: Talk
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

    def start(self):
        for fw in (self.fw1, self.fw2):
            # a redirected flow ends on the firewall
            fw.start_ctsyncd(extra="filter = { skip_own = false; "
                             f'marks = {{ except = [ "{LEFT_OUT:#x}" ]; }}; }};')
        self.fw1.ctsync("takeover")
        self.fw2.wait_ready()

    def talk(self, name, proto, src, dst, a=5555, b=80):
        if proto not in WITH_PORTS:
            a, b = 4321, 0
        if proto == ICMP and ":" in src:
            proto = ICMPV6
        talk = Talk(self.client, self.server, proto, src, dst, a, b)
        self.talks[name] = talk
        return talk

    def take_over(self):
        """fw2 takes over when it has everything; (flows, expectations) of fw1 and fw2."""
        wait_equal(self.fw2)        # what nobody has answered is told a little later
        wait_proof(self.fw2)
        before = self.kernel1.flows(), self.kernel1.expects()
        answer = takeover(self.fw2)
        assert answer["failed"] == 0, answer
        return before, (self.kernel2.flows(), self.kernel2.expects())

    def assert_equal(self, before, after, names=None):
        """The answer of take_over(): the same in both kernels.  names: those of the talks by default."""
        if names is None:
            found = {name: flow_of(talk, before[0]) for name, talk in self.talks.items()}
            assert all(found.values()), [name for name, flow in found.items() if not flow]
            names = {key_of(flow): name for name, flow in found.items()}
        fail_on(flow_differences(before[0], after[0], names) + expect_differences(before[1], after[1]))

    def fail_over(self):
        """fw1 dies, and the addresses go to fw2."""
        self.fw1.kill()
        self.fw2.take_addresses()
        self.take_addresses(self.fw2)
        # only the virtual addresses are announced
        self.lab.server.run("ip", "neigh", "flush", "dev", "wan0")


# -- conversations ---------------------------------------------------------------

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


# -- comparing -------------------------------------------------------------------

# Fields that are not compared: what belongs to one kernel, and what cannot be written.
NOT_FLOW = ("id", "use", "timeout", "counters_orig", "counters_reply", "timestamp", "secmark", "secctx")
NOT_EXPECT = ("id", "timeout")
# Bits of the status that say what one kernel has looked at.
NAT_DONE = 0x180
# TCP flags until the windows are known again: BE_LIBERAL, DATA_UNACKNOWLEDGED, MAXACK_SET.
WINDOW_FLAGS = 0x38
WINDOW_SCALE = 0x01
SYN_SENT = 1


def flow_of(talk, flows):
    """The entry of a conversation, or None."""
    ports = (talk.a, talk.b) if talk.proto in WITH_PORTS else (None, None)
    for flow in flows:
        ip, proto = flow["orig"]["ip"], flow["orig"]["proto"]
        told = (proto.get("sport"), proto.get("dport")) if talk.proto in WITH_PORTS else (None, None)
        if (proto["num"], ip["src"], ip["dst"], told) == (talk.proto, talk.src, talk.dst, ports):
            return flow
    return None


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
    if "protoinfo.tcp.state" in fields:
        fields["protoinfo.tcp.flags_orig"] &= ~WINDOW_FLAGS
        fields["protoinfo.tcp.flags_reply"] &= ~WINDOW_FLAGS
    if fields.get("protoinfo.tcp.state") == SYN_SENT:
        # The scale of the client is taken only if the server is said to scale, too.
        fields["protoinfo.tcp.flags_reply"] &= ~WINDOW_SCALE
    return fields


def is_ours(flow):
    """Not the link between the firewalls."""
    return not flow["orig"]["ip"]["src"].startswith(("10.9.9.", "fd00:9:", "fe80:"))


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


def flow_differences(ours, theirs, names=()):
    """names: {key_of(flow): what to call it}."""
    return compared(filter(is_ours, ours), filter(is_ours, theirs), dict(names), key_of, comparable)


def expect_differences(ours, theirs):
    """The zone of an expectation is not shown: of those with the same tuples only one is compared."""
    def key(expect):
        return f"{show_tuple(expect['tuple'])} of {show_tuple(expect['master'])}"

    def fields(expect):
        return flatten({k: v for k, v in expect.items() if k not in NOT_EXPECT})
    return compared(ours, theirs, {}, key, fields)


def fail_on(found):
    if found:
        pytest.fail(f"{len(found)} differences:\n" + "\n".join(found[:60]), pytrace=False)
