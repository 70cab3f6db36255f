# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets by hand: IP packets of any protocol that a host of the lab sends and sees.

A Host sends complete IP packets and sees what arrives.  Its own stack knows nothing of
the conversations: quiet() keeps it from answering.  A Talk is one flow through the
firewalls, between a client and a server, one packet at a time.
"""

import ipaddress
import itertools
import socket
import struct
import time

from lab import LabError, in_netns

ICMP, TCP, UDP, GRE, ESP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 47, 50, 58, 132, 136
ECHO = {ICMP: (8, 0), ICMPV6: (128, 129)}
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

ETH_P_ALL = 3
PACKET_OUTGOING = 4
WAIT_S = 5

QUIET = """\
table inet quiet {
	chain output {
		type filter hook output priority 0; policy accept;
		meta mark 1 accept
		tcp flags rst drop
		icmp type destination-unreachable drop
		icmpv6 type { destination-unreachable, parameter-problem } drop
	}
}
"""


def quiet(node):
    """The node's own stack does not answer to what it does not know; what a Host sends passes."""
    node.run("nft", "-f", "-", input=QUIET)


# -- checksums -----------------------------------------------------------------

def _sum16(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def _pseudo(src, dst, proto, length):
    a, b = ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed
    if len(a) == 4:
        return a + b + struct.pack("!BBH", 0, proto, length)
    return a + b + struct.pack("!IHBB", length, 0, 0, proto)


# -- building: functions of (src, dst) that give the layer 4 part -----------------------

def _with_sum(src, dst, proto, data, at):
    value = _sum16(_pseudo(src, dst, proto, len(data)) + data) or 0xffff
    return data[:at] + struct.pack("!H", value) + data[at + 2:]


def tcp(src, dst, sport, dport, flags, seq, ack=0, options=b"", payload=b"", window=8192):
    options += b"\x01" * (-len(options) % 4)
    data = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, (5 + len(options) // 4) << 4, flags,
                       window, 0, 0) + options + payload
    return _with_sum(src, dst, TCP, data, 16)


def udp(src, dst, sport, dport, payload):
    data = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    return _with_sum(src, dst, UDP, data, 6)


def udplite(src, dst, sport, dport, payload):
    # Coverage 0: all of it.
    data = struct.pack("!HHHH", sport, dport, 0, 0) + payload
    return _with_sum(src, dst, UDPLITE, data, 6)


def sctp(_src, _dst, sport, dport, vtag, chunks):
    data = struct.pack("!HHII", sport, dport, vtag, 0) + chunks
    return data[:8] + struct.pack("<I", crc32c(data)) + data[12:]


def sctp_chunk(kind, body=b"", flags=0):
    return struct.pack("!BBH", kind, flags, 4 + len(body)) + body + bytes(-len(body) % 4)


def sctp_init(kind, tag):
    """INIT (1) or INIT ACK (2)."""
    return sctp_chunk(kind, struct.pack("!IIHHI", tag, 65536, 1, 1, 1))


def echo(src, dst, reply, ident, payload):
    v6 = ":" in src
    kind = (129 if reply else 128) if v6 else (0 if reply else 8)
    data = struct.pack("!BBHHH", kind, 0, 0, ident, 1) + payload
    if v6:
        return _with_sum(src, dst, ICMPV6, data, 2)
    return data[:2] + struct.pack("!H", _sum16(data)) + data[4:]


def packet(src, dst, proto, data):
    """The IP packet around layer 4 data."""
    if ":" in src:
        return struct.pack("!IHBB", 0x60000000, len(data), proto, 64) + \
            ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed + data
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, proto, 0) + \
        ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    return head[:10] + struct.pack("!H", _sum16(head)) + head[12:] + data


class Seen:
    """A packet that arrived: src, dst, proto, data (layer 4), a and b (its first two 16 bit words)."""

    def __init__(self, raw):
        if raw[0] >> 4 == 6:
            self.proto = raw[6]
            self.src, self.dst = (str(ipaddress.IPv6Address(raw[i:i + 16])) for i in (8, 24))
            self.data = raw[40:40 + struct.unpack_from("!H", raw, 4)[0]]
        else:
            self.proto = raw[9]
            self.src, self.dst = (str(ipaddress.IPv4Address(raw[i:i + 4])) for i in (12, 16))
            self.data = raw[(raw[0] & 15) * 4:struct.unpack_from("!H", raw, 2)[0]]
        self.a, self.b = struct.unpack_from("!HH", self.data)

    def tcp(self):
        """(seq, ack, flags, payload)"""
        seq, ack, offset, flags = struct.unpack_from("!IIBB", self.data, 4)
        return seq, ack, flags, self.data[(offset >> 4) * 4:]

    def addresses(self):
        """What translation may change."""
        ports = (self.a, self.b) if self.proto in (TCP, UDP, UDPLITE, SCTP) else \
            struct.unpack_from("!H", self.data, 4) if self.proto in (ICMP, ICMPV6) else ()
        return (self.src, self.dst, *ports)

    def __str__(self):
        return f"{self.proto} {self.src} > {self.dst} {self.data[:24].hex()}"


class Host:
    """What a node sends and sees on one interface."""

    def __init__(self, node, dev):
        self.name = node.name
        in_netns(node.ns, lambda: self._open(dev))

    def _open(self, dev):
        self.v4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for sock in (self.v4, self.v6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1)       # as in QUIET
        self.tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.tap.bind((dev, ETH_P_ALL))

    def close(self):
        for sock in (self.v4, self.v6, self.tap):
            sock.close()

    def send(self, src, dst, proto, data):
        sock = self.v6 if ":" in src else self.v4
        sock.sendto(packet(src, dst, proto, data), (dst, 0))

    def see(self, wanted, timeout=WAIT_S):
        """The next packet for which wanted(seen) is true; None when there is none in time."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.tap.settimeout(left)
            try:
                raw, where = self.tap.recvfrom(65536)
            except socket.timeout:
                return None
            if where[2] == PACKET_OUTGOING or where[1] not in (0x0800, 0x86dd) or len(raw) < 24:
                continue
            seen = Seen(raw)
            if wanted(seen):
                return seen

    def forget(self):
        """What has arrived so far."""
        self.tap.setblocking(False)
        try:
            while self.tap.recv(65536):
                pass
        except BlockingIOError:
            pass


class Talk:
    """One flow between two hosts.

    The client sends from src to dst.  The server answers to whatever it sees, from where that went.
    build(src, dst, a, b): the layer 4 part, with addresses and ports in the sender's view.
    """

    numbers = itertools.count(1)

    def __init__(self, client, server, proto, src, dst, a=0, b=0):
        self.client, self.server, self.proto = client, server, proto
        self.src, self.dst, self.a, self.b = src, dst, a, b
        self.asked = None                       # the last one of the client, as the server saw it
        self.seq = [1000, 5000]                 # TCP: next of client and server
        self.ack = [0, 0]

    def _is_one(self, seen):
        """Not what keeps the network going."""
        return seen.proto == self.proto and (seen.proto not in ECHO or seen.data[0] in ECHO[seen.proto])

    def ask(self, build, timeout=WAIT_S):
        """Client to server; what the server saw.  LabError if it saw nothing."""
        data = build(self.src, self.dst, self.a, self.b)
        self.server.forget()
        self.client.send(self.src, self.dst, self.proto, data)
        seen = self.server.see(self._is_one, timeout)
        if seen is None:
            raise LabError(f"{self}: the server saw nothing")
        self.asked = seen
        return seen

    def answer(self, build, timeout=WAIT_S):
        """Server to client; what the client saw from where it had asked."""
        q = self.asked
        data = build(q.dst, q.src, q.b, q.a)
        self.client.forget()
        self.server.send(q.dst, q.src, self.proto, data)
        seen = self.client.see(lambda s: self._is_one(s) and (s.src, s.dst) == (self.dst, self.src), timeout)
        if seen is None:
            raise LabError(f"{self}: the client saw no answer to {self.asked}")
        return seen

    def __str__(self):
        return f"{self.proto} {self.src}:{self.a} > {self.dst}:{self.b}"

    # -- datagrams ---------------------------------------------------------------

    def exchange(self, both=True):
        """A packet, and one back."""
        payload = struct.pack("!I", next(self.numbers)) + b"ping"
        if self.proto in (ICMP, ICMPV6):
            # Whoever has the address answers by itself, or we do: the same.
            self.ask(lambda s, d, a, b: echo(s, d, False, self.a, payload))
            if both:
                ident = struct.unpack_from("!H", self.asked.data, 4)[0]
                self.answer(lambda s, d, a, b: echo(s, d, True, ident, payload))
            return
        build = {
            UDP: lambda s, d, a, b: udp(s, d, a, b, payload),
            UDPLITE: lambda s, d, a, b: udplite(s, d, a, b, payload),
            GRE: lambda s, d, a, b: struct.pack("!HH", 0, 0x0800) + payload,
        }.get(self.proto, lambda s, d, a, b: struct.pack("!II", 0x1000, 1) + payload)
        self.ask(build)
        if both:
            self.answer(build)

    # -- TCP ---------------------------------------------------------------------

    def _segment(self, who, flags, payload=b"", options=b""):
        seq, ack = self.seq[who], self.ack[who]

        def build(s, d, a, b):
            return tcp(s, d, a, b, flags, seq, ack if flags & ACK else 0, options, payload)
        seen = self.answer(build) if who else self.ask(build)
        used = len(payload) + bool(flags & (SYN | FIN))
        self.seq[who] = (seq + used) & 0xffffffff
        got = seen.tcp()
        if self.ack[1 - who] not in (0, got[0]):
            raise LabError(f"{self}: sequence number {got[0]} came, {self.ack[1 - who]} was to come")
        self.ack[1 - who] = (got[0] + len(got[3]) + bool(flags & (SYN | FIN))) & 0xffffffff
        return got

    def tcp_client(self, flags=ACK, payload=b""):
        return self._segment(0, flags, payload)

    def tcp_server(self, flags=ACK, payload=b""):
        return self._segment(1, flags, payload)

    def tcp_open(self, steps=3, wscale=(7, 5), sack=True, first=0):
        """The first steps of a handshake, or those after the first ones."""
        for step in range(first, steps):
            options = b""
            if step < 2:
                options = struct.pack("!BBH", 2, 4, 1460)
                options += b"\x03\x03" + bytes([wscale[step]]) if wscale else b""
                options += b"\x04\x02" if sack else b""
            self._segment(step % 2, (SYN, SYN | ACK, ACK)[step], b"", options)

    # -- SCTP --------------------------------------------------------------------

    TAGS = (0x11223344, 0x55667788)

    def sctp_client(self, chunks, vtag=None):
        tag = self.TAGS[1] if vtag is None else vtag
        return self.ask(lambda s, d, a, b: sctp(s, d, a, b, tag, chunks))

    def sctp_server(self, chunks):
        return self.answer(lambda s, d, a, b: sctp(s, d, a, b, self.TAGS[0], chunks))

    def sctp_open(self, steps=4):
        if steps > 0:
            self.sctp_client(sctp_init(1, self.TAGS[0]), vtag=0)
        if steps > 1:
            self.sctp_server(sctp_init(2, self.TAGS[1]))
        if steps > 2:
            self.sctp_client(sctp_chunk(10, b"cookie!!"))
        if steps > 3:
            self.sctp_server(sctp_chunk(11))

    def sctp_data(self, both=True):
        body = struct.pack("!IHHI", next(self.numbers), 0, 0, 0) + b"data"
        self.sctp_client(sctp_chunk(0, body, flags=3))
        if both:
            self.sctp_server(sctp_chunk(0, body, flags=3))
