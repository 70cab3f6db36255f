# SPDX-License-Identifier: GPL-3.0-or-later
"""Flows and expectations out of nothing, in one line each: short forms of the entries of ctnl.py.

conntrack(8) makes most flows, but none with labels, a helper, a master or sequence numbers that are
adjusted, and no expectation with flags or a translation.
"""

from ctnl import ASSURED, CONFIRMED, SEEN_REPLY, Kernel, make_tuple

ICMP, TCP, UDP, GRE, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 47, 58, 132, 136
ICMP_REPLIES = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129, 139: 140}
PERMANENT, INACTIVE, USERSPACE = 0x1, 0x2, 0x4          # of an expectation


class Tuple:
    """proto, src, dst and two numbers: ports, keys, or of ICMP the id and (type, code)."""

    def __init__(self, proto, src, dst, first=None, second=None):
        self.proto, self.src, self.dst, self.first, self.second = proto, src, dst, first, second

    def reply(self):
        """What answers it when nothing is translated."""
        if self.proto in (ICMP, ICMPV6):
            kind, code = self.second
            return Tuple(self.proto, self.dst, self.src, self.first, (ICMP_REPLIES[kind], code))
        return Tuple(self.proto, self.dst, self.src, self.second, self.first)

    def entry(self):
        if self.proto in (ICMP, ICMPV6):
            name = "icmp" if self.proto == ICMP else "icmpv6"
            return make_tuple(self.src, self.dst, self.proto, **{f"{name}_id": self.first,
                              f"{name}_type": self.second[0], f"{name}_code": self.second[1]})
        return make_tuple(self.src, self.dst, self.proto, self.first, self.second)


def _protoinfo(proto, state, vtags):
    if proto == TCP:
        return {"tcp": {"state": state, "wscale_orig": 7, "wscale_reply": 8, "flags_orig": (3, 3),
                        "flags_reply": (3, 3)}}
    if proto == SCTP:
        return {"sctp": {"state": state, "vtag_orig": vtags[0], "vtag_reply": vtags[1]}}
    return {}


def flow(orig, state=3, status=SEEN_REPLY | ASSURED, timeout=600, mark=0, zone=0, vtags=(0, 0), labels=(),
         helper=None, master=None, seqadj=None, synproxy=None):
    """orig and master are Tuples.

    labels: numbers of bits.  seqadj: (position, before, after) of the original direction.
    synproxy: (isn, its, tsoff).
    """
    entry = {"orig": orig.entry(), "reply": orig.reply().entry(), "status": status | CONFIRMED,
             "timeout": timeout, "mark": mark, "protoinfo": _protoinfo(orig.proto, state, vtags)}
    if zone:
        entry["zone"] = zone
    if labels:
        entry["labels"] = sum(1 << n for n in labels).to_bytes(16, "little").hex()
    if helper:
        entry["help"] = {"name": helper}
    if master:
        entry["master"] = master.entry()
    if seqadj:
        entry["seqadj_orig"] = dict(zip(("pos", "before", "after"), seqadj))
    if synproxy:
        entry["synproxy"] = dict(zip(("isn", "its", "tsoff"), synproxy))
    return entry if entry["protoinfo"] else {k: v for k, v in entry.items() if k != "protoinfo"}


def expectation(expected, master, source="255.255.255.255", port=0, timeout=300, flags=0, nat=None,
                function=None, zone=0):
    """source and port: mask of the source.  nat: a Tuple whose source is what to translate to."""
    ones = "255.255.255.255" if ":" not in expected.src else "ffff:" * 7 + "ffff"
    entry = {"master": master.entry(), "tuple": expected.entry(), "timeout": timeout, "flags": flags,
             "mask": Tuple(expected.proto, source, ones, port, 0xffff).entry(), "class": 0}
    if zone:
        entry["zone"] = zone
    if nat:
        entry["nat"] = {"dir": 1, "tuple": nat.entry()}
    if function:
        entry["fn"] = function
    return entry


def put(fw, *entries):
    """Create them in the kernel of fw; its refusal is an OSError."""
    with Kernel(fw.ns) as kernel:
        for entry in entries:
            if "tuple" in entry:
                kernel.create_expect(entry)
            else:
                kernel.create(entry)
