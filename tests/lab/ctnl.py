# SPDX-License-Identifier: GPL-3.0-or-later
"""ctnetlink by hand: every attribute of every entry and expectation, read and written.

An entry is a dictionary of dictionaries, with the names of the tables below:

    {"orig": {"ip": {"src": "10.1.0.10", "dst": "192.0.2.80"}, "proto": {"num": 6, ...}}, ...}

What a table does not know is shown by its number and its bytes, so that a comparison
of two kernels' tables leaves nothing out.
"""

import errno
import socket
import struct

from lab import LabError, in_netns

NETLINK_NETFILTER = 12
SUBSYS_CT, SUBSYS_EXP = 1, 2
NEW, GET, DELETE = 0, 1, 2
ERROR, DONE = 2, 3
REQUEST, ACK, CREATE, EXCL, DUMP = 1, 4, 0x400, 0x200, 0x300
GROUPS = {"new": 1, "update": 2, "destroy": 3, "exp_new": 4, "exp_destroy": 6}
NESTED = 0x8000

SEEN_REPLY, ASSURED, CONFIRMED = 0x2, 0x4, 0x8
EXPECTED, SRC_NAT, DST_NAT, SEQ_ADJUST, FIXED_TIMEOUT, HELPER = 0x1, 0x10, 0x20, 0x40, 0x400, 0x2000


class Number:
    """An unsigned number, big-endian."""

    def __init__(self, size):
        self.size = size

    def decode(self, data):
        return int.from_bytes(data, "big")

    def encode(self, value):
        return value.to_bytes(self.size, "big")


class Address:
    def __init__(self, family):
        self.family = family

    def decode(self, data):
        return socket.inet_ntop(self.family, data)

    def encode(self, value):
        return socket.inet_pton(self.family, value)

    def takes(self, value):
        return (":" in value) == (self.family == socket.AF_INET6)


class Text:
    def decode(self, data):
        return data.rstrip(b"\0").decode(errors="backslashreplace")

    def encode(self, value):
        return value.encode() + b"\0"


class Raw:
    """Bytes, as hexadecimal digits."""

    def decode(self, data):
        return data.hex()

    def encode(self, value):
        return bytes.fromhex(value)


class Flags:
    """TCP flags of a direction: shown as they are, written with a mask of all or as (flags, mask)."""

    def decode(self, data):
        return data[0]

    def encode(self, value):
        return bytes(value if isinstance(value, tuple) else (value, 0xff))


U8, U16, U32, U64 = Number(1), Number(2), Number(4), Number(8)
V4, V6, TEXT, RAW, FLAGS = Address(socket.AF_INET), Address(socket.AF_INET6), Text(), Raw(), Flags()

TUPLE = {
    1: ("ip", {1: ("src", V4), 2: ("dst", V4), 3: ("src", V6), 4: ("dst", V6)}),
    2: ("proto", {1: ("num", U8), 2: ("sport", U16), 3: ("dport", U16),
                  4: ("icmp_id", U16), 5: ("icmp_type", U8), 6: ("icmp_code", U8),
                  7: ("icmpv6_id", U16), 8: ("icmpv6_type", U8), 9: ("icmpv6_code", U8)}),
    3: ("zone", U16),
}
COUNTERS = {1: ("packets", U64), 2: ("bytes", U64)}
NAT = {
    1: ("min", V4), 2: ("max", V4), 4: ("min", V6), 5: ("max", V6),
    3: ("proto", {1: ("port_min", U16), 2: ("port_max", U16)}),
}
SEQADJ = {1: ("pos", U32), 2: ("before", U32), 3: ("after", U32)}
FLOW = {
    1: ("orig", TUPLE),
    2: ("reply", TUPLE),
    3: ("status", U32),
    4: ("protoinfo", {
        1: ("tcp", {1: ("state", U8), 2: ("wscale_orig", U8), 3: ("wscale_reply", U8),
                    4: ("flags_orig", FLAGS), 5: ("flags_reply", FLAGS)}),
        2: ("dccp", {1: ("state", U8), 2: ("role", U8), 3: ("handshake_seq", U64)}),
        3: ("sctp", {1: ("state", U8), 2: ("vtag_orig", U32), 3: ("vtag_reply", U32)}),
    }),
    5: ("help", {1: ("name", TEXT), 2: ("info", RAW)}),
    6: ("nat_src", NAT),
    7: ("timeout", U32),
    8: ("mark", U32),
    9: ("counters_orig", COUNTERS),
    10: ("counters_reply", COUNTERS),
    11: ("use", U32),
    12: ("id", U32),
    13: ("nat_dst", NAT),
    14: ("master", TUPLE),
    15: ("seqadj_orig", SEQADJ),
    16: ("seqadj_reply", SEQADJ),
    17: ("secmark", U32),
    18: ("zone", U16),
    19: ("secctx", {1: ("name", TEXT)}),
    20: ("timestamp", {1: ("start", U64), 2: ("stop", U64)}),
    22: ("labels", RAW),
    23: ("labels_mask", RAW),
    24: ("synproxy", {1: ("isn", U32), 2: ("its", U32), 3: ("tsoff", U32)}),
}
EXPECT = {
    1: ("master", TUPLE),
    2: ("tuple", TUPLE),
    3: ("mask", TUPLE),
    4: ("timeout", U32),
    5: ("id", U32),
    6: ("help_name", TEXT),
    7: ("zone", U16),
    8: ("flags", U32),
    9: ("class", U32),
    10: ("nat", {1: ("dir", U32), 2: ("tuple", TUPLE)}),
    11: ("fn", TEXT),
}
TABLES = {SUBSYS_CT: FLOW, SUBSYS_EXP: EXPECT}


def _decode(table, data):
    result = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            raise LabError("an attribute of the kernel is too short")
        value = data[offset + 4:offset + length]
        name, codec = table.get(kind & 0x3fff, (f"attribute {kind & 0x3fff}", RAW))
        result[name] = _decode(codec, value) if isinstance(codec, dict) else codec.decode(value)
        offset += (length + 3) & ~3
    return result


def _encode(table, entry):
    data = b""
    for name, value in entry.items():
        kind, codec = next((k, c) for k, (n, c) in table.items()
                           if n == name and (not isinstance(c, Address) or c.takes(value)))
        if isinstance(codec, dict):
            kind |= NESTED
            value = _encode(codec, value)
        else:
            value = codec.encode(value)
        data += struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)
    return data


def _messages(data):
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, seq, pid = struct.unpack_from("=IHHII", data, offset)
        yield kind, flags, seq, pid, data[offset + 16:offset + length]
        offset += (length + 3) & ~3


class Kernel:
    """A netlink socket in a namespace."""

    def __init__(self, ns, groups=()):
        self.sock = in_netns(ns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                                                       NETLINK_NETFILTER))
        self.sock.settimeout(30)
        self.sock.bind((0, 0))
        for name in groups:
            self.sock.setsockopt(270, 1, GROUPS[name])      # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
        self.seq = 0

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.sock.close()

    def _ask(self, subsys, message, flags, family, entry):
        """Send a request; the entries in the answer.  OSError with the kernel's errno."""
        self.seq += 1
        body = struct.pack("=BBH", family, 0, 0) + _encode(TABLES[subsys], entry)
        self.sock.send(struct.pack("=IHHII", 16 + len(body), subsys << 8 | message, REQUEST | flags,
                                   self.seq, 0) + body)
        found = []
        while True:
            for kind, _flags, seq, _pid, payload in _messages(self.sock.recv(1 << 18)):
                if seq != self.seq:
                    continue
                if kind in (ERROR, DONE):
                    code = -struct.unpack_from("=i", payload)[0]
                    if code > 0:
                        raise OSError(code, errno.errorcode.get(code, "?"))
                    return found
                entry = _decode(TABLES[subsys], payload[4:])
                found.append({"family": payload[0], **entry})

    def flows(self):
        return self._ask(SUBSYS_CT, GET, DUMP, socket.AF_UNSPEC, {})

    def expects(self):
        return self._ask(SUBSYS_EXP, GET, DUMP, socket.AF_UNSPEC, {})

    def create(self, entry, flags=CREATE | EXCL):
        """A flow, or with flags=0 an update of one."""
        self._ask(SUBSYS_CT, NEW, flags | ACK, _family(entry["orig"]), entry)

    def get(self, entry):
        return self._ask(SUBSYS_CT, GET, ACK, _family(entry["orig"]), _key(entry, ("orig", "zone")))[0]

    def delete(self, entry):
        self._ask(SUBSYS_CT, DELETE, ACK, _family(entry["orig"]), _key(entry, ("orig", "zone")))

    def create_expect(self, entry, flags=CREATE | EXCL):
        self._ask(SUBSYS_EXP, NEW, flags | ACK, _family(entry["tuple"]), entry)

    def get_expect(self, entry, keys=("tuple", "zone")):
        return self._ask(SUBSYS_EXP, GET, ACK, _family(entry["tuple"]), _key(entry, keys))[0]

    def delete_expect(self, entry, keys=("tuple", "zone")):
        self._ask(SUBSYS_EXP, DELETE, ACK, _family(entry["tuple"]), _key(entry, keys))

    def events(self, timeout=1):
        """What comes until there is silence: [(subsystem, message, flags, entry), ...]."""
        found = []
        self.sock.settimeout(timeout)
        try:
            while True:
                for kind, flags, _seq, _pid, payload in _messages(self.sock.recv(1 << 18)):
                    entry = _decode(TABLES[kind >> 8], payload[4:])
                    found.append((kind >> 8, kind & 0xff, flags, entry))
        except socket.timeout:
            return found


def _key(entry, names):
    return {k: entry[k] for k in names if k in entry}


def _family(tup):
    return socket.AF_INET6 if ":" in tup["ip"]["src"] else socket.AF_INET


def make_tuple(src, dst, num, sport=None, dport=None, **more):
    """A tuple; more: zone, icmp_id and so on."""
    proto = {"num": num}
    if sport is not None:
        proto.update(sport=sport, dport=dport)
    zone = more.pop("zone", None)
    proto.update(more)
    result = {"ip": {"src": src, "dst": dst}, "proto": proto}
    if zone is not None:
        result["zone"] = zone
    return result


def flatten(entry, prefix=""):
    """{"orig.ip.src": ..., ...}: one line per field."""
    result = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            result.update(flatten(value, f"{prefix}{name}."))
        else:
            result[prefix + name] = value
    return result


def show_tuple(tup):
    proto = tup["proto"]
    rest = " ".join(f"{k}={v}" for k, v in proto.items() if k != "num")
    zone = f" zone={tup['zone']}" if "zone" in tup else ""
    return f"{proto['num']} {tup['ip']['src']} > {tup['ip']['dst']} {rest}{zone}".strip()
