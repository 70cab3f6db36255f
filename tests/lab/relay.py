# SPDX-License-Identifier: GPL-3.0-or-later
"""A bad cable: what the daemons send passes a namespace in between that may do anything to it.

`with Relay(lab) as relay:` before the daemons are started takes the place of the cable between the
firewalls.  Frames are passed on as they are, hop limit and addresses untouched, between two packet
sockets; relay.faults says what happens to datagrams of the synchronisation.  Everything else (ARP)
always passes.
"""

import contextlib
import heapq
import random
import select
import socket
import struct
import time
from dataclasses import dataclass

from lab import Node, in_netns
from tools import PORT, Background


@dataclass
class Faults:
    """Shares from 0 to 1, times in seconds."""

    lost: float = 0
    doubled: float = 0
    spoiled: float = 0          # one bit is another
    late: float = 0             # held back for up to `jitter`, others overtake it
    jitter: float = 0
    delay: float = 0            # of everything


class Relay:
    """Counters: seen, lost, doubled, spoiled, late."""

    def __init__(self, lab, faults=None, seed=1):
        self.faults = faults or Faults()
        self.chance = random.Random(seed)
        self.seen = self.lost = self.doubled = self.spoiled = self.late = 0
        self.waiting = []       # heap of (due, number, outlet, frame)
        self.number = 0
        self.node = self._insert(lab)
        self.ends = in_netns(self.node.ns, lambda: [self._open(f"end{n}") for n in (1, 2)])
        self.work = None

    @staticmethod
    def _insert(lab):
        """Two cables and a namespace without addresses between the firewalls."""
        node = Node(lab, "relay")
        lab.nodes.append(node)
        node.create()
        node.sysctl(net__ipv6__conf__default__disable_ipv6=1)
        lab.fw1.ip("link del sync0")
        for fw in (lab.fw1, lab.fw2):
            node.ip(f"link add end{fw.number} type veth peer name sync0 netns {fw.ns}",
                    f"link set end{fw.number} up")
            fw.ip("link set sync0 up", f"addr add {fw.sync_address}/24 dev sync0")
        return node

    @staticmethod
    def _open(device):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        sock.bind((device, 0x0003))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        sock.setblocking(False)
        return sock

    def __enter__(self):
        self.work = Background(self._run)
        return self

    def __exit__(self, *_error):
        self.work.join()
        for sock in self.ends:
            sock.close()

    # -- the cable ---------------------------------------------------------

    def _run(self, stop):
        one, two = self.ends
        while not stop.is_set():
            wait = 0.05
            if self.waiting:
                wait = min(wait, max(0, self.waiting[0][0] - time.monotonic()))
            readable, _, _ = select.select(self.ends, [], [], wait)
            for inlet in readable:
                self._read(inlet, two if inlet is one else one)
            now = time.monotonic()
            while self.waiting and self.waiting[0][0] <= now:
                _, _, outlet, frame = heapq.heappop(self.waiting)
                with contextlib.suppress(OSError):      # no room: lost, as on any wire
                    outlet.send(frame)

    def _read(self, inlet, outlet):
        for _ in range(64):
            try:
                frame, address = inlet.recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            if self._is_data(frame):
                self._bear(outlet, frame)
            else:
                self._pass(outlet, frame, 0)

    @staticmethod
    def _is_data(frame):
        return (len(frame) > 42 and frame[12:14] == b"\x08\x00" and frame[14] == 0x45 and
                frame[23] == socket.IPPROTO_UDP and frame[36:38] == struct.pack("!H", PORT))

    def _bear(self, outlet, frame):
        """A datagram of ours: let happen to it what may."""
        faults, chance = self.faults, self.chance.random
        self.seen += 1
        if chance() < faults.lost:
            self.lost += 1
            return
        # On a veth the checksum is not computed; without one it is not checked.
        frame = frame[:40] + b"\0\0" + frame[42:]
        copies = 1
        if chance() < faults.doubled:
            self.doubled += 1
            copies = 2
        for _ in range(copies):
            data, delay = frame, faults.delay
            if chance() < faults.spoiled:
                self.spoiled += 1
                spoiled = bytearray(frame)
                spoiled[self.chance.randrange(42, len(frame))] ^= 1 << self.chance.randrange(8)
                data = bytes(spoiled)
            if chance() < faults.late:
                self.late += 1
                delay += chance() * faults.jitter
            self._pass(outlet, data, delay)

    def _pass(self, outlet, frame, delay):
        self.number += 1
        heapq.heappush(self.waiting, (time.monotonic() + delay, self.number, outlet, frame))
