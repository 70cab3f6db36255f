# SPDX-License-Identifier: GPL-3.0-or-later
"""Flows and expectations out of nothing, with every attribute that ctnetlink takes.

conntrack(8) makes most flows, but none with labels, a helper, a master or sequence numbers that are
adjusted, and no expectation with flags or a translation.  `put(fw, *messages)` sends what `flow()` and
`expectation()` build; the kernel's refusal is an OSError.
"""

import ipaddress
import os
import socket
import struct

from lab import in_netns

ICMP, TCP, UDP, GRE, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 47, 58, 132, 136

ICMP_REPLIES = {8: 0, 13: 14, 15: 16, 17: 18, 128: 129, 139: 140}

SEEN_REPLY, ASSURED, CONFIRMED = 0x2, 0x4, 0x8
PERMANENT, INACTIVE, USERSPACE = 0x1, 0x2, 0x4          # of an expectation

NETLINK_NETFILTER = 12
CREATE = 0x605              # REQUEST, ACK, CREATE, EXCL
NEW_FLOW, NEW_EXPECTATION = 1 << 8, 2 << 8
NESTED = 0x8000


def attr(kind, payload):
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nest(kind, *attrs):
    return attr(kind | NESTED, b"".join(attrs))


def u8(kind, value):
    return attr(kind, struct.pack("B", value))


def be16(kind, value):
    return attr(kind, struct.pack("!H", value))


def be32(kind, value):
    return attr(kind, struct.pack("!I", value & 0xffffffff))


def name(kind, value):
    return attr(kind, value.encode() + b"\0")


class Tuple:
    """proto, src, dst and two numbers: ports, keys, or of ICMP the id and (type, code)."""

    def __init__(self, proto, src, dst, first=0, second=0):
        self.proto, self.first, self.second = proto, first, second
        self.src, self.dst = ipaddress.ip_address(src), ipaddress.ip_address(dst)

    @property
    def family(self):
        return socket.AF_INET if self.src.version == 4 else socket.AF_INET6

    def reply(self):
        """What answers it when nothing is translated."""
        if self.proto in (ICMP, ICMPV6):
            kind, code = self.second
            return Tuple(self.proto, self.dst, self.src, self.first, (ICMP_REPLIES[kind], code))
        return Tuple(self.proto, self.dst, self.src, self.second, self.first)

    def encode(self, kind):
        six = self.src.version == 6
        proto = [u8(1, self.proto)]
        if self.proto in (ICMP, ICMPV6):
            at = 7 if six else 4
            proto += [be16(at, self.first), u8(at + 1, self.second[0]), u8(at + 2, self.second[1])]
        elif self.proto in (TCP, UDP, UDPLITE, SCTP, GRE):
            proto += [be16(2, self.first), be16(3, self.second)]
        return nest(kind, nest(1, attr(3 if six else 1, self.src.packed),
                               attr(4 if six else 2, self.dst.packed)), nest(2, *proto))


def _message(kind, family, attrs):
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attrs)
    return struct.pack("=IHHII", 16 + len(body), kind, CREATE, 1, 0) + body


def _protoinfo(proto, state, vtags):
    if proto == TCP:
        return [nest(4, nest(1, u8(1, state), u8(2, 7), u8(3, 8),
                             attr(4, b"\x03\x03"), attr(5, b"\x03\x03")))]
    if proto == SCTP:
        return [nest(4, nest(3, u8(1, state), be32(2, vtags[0]), be32(3, vtags[1])))]
    return []


def _seqadj(kind, numbers):
    return nest(kind, *(be32(i + 1, n) for i, n in enumerate(numbers)))


def flow(orig, state=3, status=SEEN_REPLY | ASSURED, timeout=600, mark=0, zone=0, vtags=(0, 0), labels=(),
         helper=None, master=None, seqadj=None, synproxy=None):
    """The message that creates a flow; orig and master are Tuples.

    labels: numbers of bits.  seqadj: (position, before, after) of the original direction.
    synproxy: (isn, its, tsoff).
    """
    attrs = [orig.encode(1), orig.reply().encode(2), be32(3, status | CONFIRMED), be32(7, timeout),
             be32(8, mark), *_protoinfo(orig.proto, state, vtags)]
    if zone:
        attrs.append(be16(18, zone))
    if labels:
        bits = sum(1 << n for n in labels)
        attrs.append(attr(22, bits.to_bytes(16, "little")))
    if helper:
        attrs.append(nest(5, name(1, helper)))
    if master:
        attrs.append(master.encode(14))
    if seqadj:
        attrs.append(_seqadj(15, seqadj))
    if synproxy:
        attrs.append(_seqadj(24, synproxy))
    return _message(NEW_FLOW, orig.family, attrs)


def expectation(expected, master, source="255.255.255.255", port=0, timeout=300, flags=0, policy=0,
                helper=None, nat=None, function=None, zone=0):
    """The message that creates an expectation.

    source and port: mask of the source.  nat: a Tuple whose source is what to translate to.
    """
    ones = "255.255.255.255" if expected.src.version == 4 else "ffff:" * 7 + "ffff"
    mask = Tuple(expected.proto, source, ones, port, 0xffff)
    attrs = [master.encode(1), expected.encode(2), mask.encode(3), be32(4, timeout), be32(8, flags),
             be32(9, policy)]
    if helper:
        attrs.append(name(6, helper))
    if zone:
        attrs.append(be16(7, zone))
    if nat:
        attrs.append(nest(10, be32(1, 1), nat.encode(2)))
    if function:
        attrs.append(name(11, function))
    return _message(NEW_EXPECTATION, expected.family, attrs)


def put(fw, *messages):
    """Send each message and take its acknowledgement."""
    def send():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
            sock.settimeout(10)
            sock.bind((0, 0))
            for number, message in enumerate(messages):
                sock.send(message)
                error = -struct.unpack_from("=i", sock.recv(8192), 16)[0]
                if error:
                    raise OSError(error, f"message {number}: {os.strerror(error)}")
    in_netns(fw.ns, send)
