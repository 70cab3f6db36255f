# SPDX-License-Identifier: GPL-3.0-or-later
"""The link between the daemons: lossy, cut, IPv6, full of rubbish."""

import contextlib
import random
import socket
import struct

import pytest

from lab import in_netns, wait_for
from tools import (PORT, RELAY_MAC, Background, count, ctgen, listed, lose, losing, peer,
                   same_kernels, stats, wait_equal, wait_holds, wait_proof)


class Tap:
    """The sync interface of a firewall, by hand: what arrives there, and what we let arrive.

    Frames are delivered through the interface of the peer, as if that had sent them, but with a
    hardware address by which lose() knows them.
    """

    MAC = bytes.fromhex(RELAY_MAC.replace(":", ""))

    def __init__(self, fw):
        self.fw = fw
        self.inlet = in_netns(fw.ns, lambda: self._open(0x0003))
        self.outlet = in_netns(fw.peer.ns, lambda: self._open(0))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.inlet.close()
        self.outlet.close()

    @staticmethod
    def _open(protocol):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        sock.bind(("sync0", protocol))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        return sock

    @staticmethod
    def _is_data(frame):
        return (len(frame) > 42 and frame[12:14] == b"\x08\x00" and frame[14] == 0x45 and
                frame[23] == socket.IPPROTO_UDP and frame[36:38] == struct.pack("!H", PORT))

    def receive(self, timeout):
        """The next datagram that the peer sent to us, None if there is none in that time."""
        self.inlet.settimeout(timeout)
        while True:
            try:
                frame, address = self.inlet.recvfrom(65536)
            except (TimeoutError, BlockingIOError):
                return None
            if (address[2] != socket.PACKET_OUTGOING and self._is_data(frame) and
                    frame[6:12] != self.MAC):
                # On a veth the checksum is not computed; without one it is not checked.
                return frame[:40] + b"\0\0" + frame[42:]

    def deliver(self, frame):
        with contextlib.suppress(OSError):      # no room: lost, as on any wire
            self.outlet.send(frame[:6] + self.MAC + frame[12:])


# -- loss -------------------------------------------------------------------------

@pytest.mark.parametrize("percent", [1, 5, 20, 50])
def test_loss(pair, percent):
    """Flows come, change and go over a lossy link, both ways; equal while it still loses."""
    fw1, fw2 = pair
    with losing(pair, percent):
        ctgen(fw1, "create", "-n", 20000)
        churn = Background(lambda _stop: ctgen(fw1, "churn", "-o", 100000, "-n", 20000, "-L", 3000,
                                               "-r", 6000))
        ctgen(fw1, "update", "-n", 20000, "-m", 5, "-r", 10000)
        ctgen(fw1, "delete", "-n", 5000, "-r", 5000)
        churn.join()
        # Also with news of the other side under way.
        ctgen(fw2, "create", "-k", "udp", "-n", 500)
        for fw in pair:
            wait_proof(fw)
            wait_equal(fw)
        assert count(fw2, "remote", "--mark", "5") == 15000
        assert stats(fw1)["local"]["frames_resent_total"] > 0
    ctgen(fw2, "delete", "-k", "udp", "-n", 500)
    same_kernels(fw2)


@pytest.mark.parametrize("down", [True, False], ids=["link down", "silent"])
def test_cut_and_healed(pair, down):
    """What changed meanwhile arrives, and only that: no full synchronisation."""
    fw1, fw2 = pair
    ctgen(fw1, "create", "-n", 20000)
    wait_holds(fw2, 20000)
    before = stats(fw1)["local"]
    if down:
        fw1.ip("link set sync0 down")
    else:
        lose(fw1, 100)
        lose(fw2, 100)
    ctgen(fw1, "delete", "-n", 2000)
    ctgen(fw1, "create", "-o", 20000, "-n", 3000)
    wait_for(lambda: peer(fw2)["state"] == "lost" and peer(fw1)["state"] == "lost", 20,
             "both to notice")
    assert count(fw2, "remote") >= 20000, "flows of a lost peer are kept"
    ctgen(fw1, "update", "-o", 5000, "-n", 1000, "-m", 4)
    if down:
        fw1.ip("link set sync0 up")
    else:
        lose(fw1, 0)
        lose(fw2, 0)
    fw2.wait_ready()
    same_kernels(fw2)
    assert count(fw2, "remote", "--mark", "4") == 1000
    after = stats(fw1)["local"]
    assert after["full_syncs_total"] == before["full_syncs_total"]
    assert after["records_total"] - before["records_total"] < 20000


def test_one_way(pair):
    """Only one direction is cut: nobody claims to be equal, and all is well afterwards."""
    fw1, fw2 = pair
    lose(fw2, 100)
    ctgen(fw1, "create", "-n", 1000)
    wait_for(lambda: not fw2.in_sync() and not fw2.ready() or peer(fw2)["state"] == "lost", 20,
             "fw2 to notice")
    wait_for(lambda: not peer(fw1)["peer_in_sync"], 20, "fw1 to know")
    assert count(fw2, "remote", "-p", "tcp") == 0
    lose(fw2, 0)
    same_kernels(fw2)


# -- other links ----------------------------------------------------------------------

@pytest.mark.smoke
def test_ipv6(lab):
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd(ipv6=True)
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 2000)
    ctgen(fw1, "create", "-k", "tcp6-snat", "-n", 2000)
    wait_holds(fw2, 4000)
    assert not [line for line in listed(fw1, "local") if "fd00:9:" in line]
    same_kernels(fw2)


def second_cable(lab):
    """sync1 between the firewalls, and the links of both configurations."""
    lab.fw1.ip(f"link add sync1 type veth peer name sync1 netns {lab.fw2.ns}")
    for fw in (lab.fw1, lab.fw2):
        fw.ip("link set sync1 up", f"addr add 10.9.8.{fw.number}/24 dev sync1")
        fw.run("nft", "insert rule inet lab input iifname sync1 accept")
        links = [f'{{ name = "ha{n}"; transport = "udp"; interface = "sync{n}"; '
                 f'local = "10.9.{9 - n}.{fw.number}"; peers = ( {{ name = "{fw.peer.name}"; '
                 f'address = "10.9.{9 - n}.{fw.peer.number}"; }} ); }}' for n in (0, 1)]
        fw.write_config(links=",\n  ".join(links))


@pytest.mark.parametrize("how", ["down", "silent"])
def test_two_links(lab, how):
    """One of two links fails, and later the other: data goes on, nothing is lost or sent again."""
    second_cable(lab)
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        fw.start_ctsyncd()
    fw1.ctsync("takeover")
    ctgen(fw1, "create", "-n", 20000)
    wait_holds(fw2, 20000)
    before = stats(fw1)["local"]
    first = peer(fw1)["link"]
    assert first in ("ha0", "ha1")
    other = "ha1" if first == "ha0" else "ha0"
    churn = Background(lambda _stop: ctgen(fw1, "churn", "-o", 100000, "-n", 20000, "-L", 2000, "-r",
                                           8000))

    def states(fw):
        return {link["name"]: link["state"] for link in fw.status()["links"]}

    def cut(name, yes):
        device = name.replace("ha", "sync")
        if how == "down":
            fw1.ip(f"link set {device} {'down' if yes else 'up'}")
        else:
            lose(fw1, 100 if yes else 0, device)
            lose(fw2, 100 if yes else 0, device)

    lost, created = False, 0
    for failing, standing in ((first, other), (other, first)):
        cut(failing, True)
        wait_for(lambda s=standing: peer(fw1)["link"] == s, 20, f"data to move to {standing}")
        lost = lost or "lost" in (peer(fw1)["state"], peer(fw2)["state"])
        wait_for(lambda f=failing, s=standing: states(fw1)[f] != "up" and states(fw1)[s] == "up", 20,
                 f"status to show that {failing} is down")
        packets = stats(fw1)["links"][standing]["tx_packets_total"]
        ctgen(fw1, "create", "-k", "udp", "-o", created, "-n", 5000)
        created += 5000
        wait_for(lambda: count(fw2, "remote", "-p", "udp") == created, 20, "new flows to arrive")
        assert stats(fw1)["links"][standing]["tx_packets_total"] - packets > 50
        cut(failing, False)
        wait_for(lambda: set(states(fw1).values()) | set(states(fw2).values()) == {"up"}, 20,
                 "both links to be up")
    assert not lost
    churn.join()
    same_kernels(fw2)
    after = stats(fw1)["local"]
    assert after["full_syncs_total"] == before["full_syncs_total"]
    assert after["restarts_total"] == before["restarts_total"]
    assert stats(fw2)["peers"]["fw1"]["epochs_total"] == 1


# -- rubbish ------------------------------------------------------------------------------

def spoiled(frame, chance):
    """A datagram with the right addresses and ports, and a payload that is not ours."""
    payload = bytearray(frame[42:])
    kind = chance.randrange(4)
    if kind == 0:                       # noise
        payload = bytearray(chance.randbytes(chance.randrange(1, 1400)))
    elif kind == 1:                     # a right header, wrong contents
        for _ in range(4):
            payload[chance.randrange(48, len(payload))] ^= 1 << chance.randrange(8)
    elif kind == 2:                     # a wrong header
        payload[chance.randrange(0, 48)] ^= 1 << chance.randrange(8)
    else:                               # cut off
        payload = payload[:chance.randrange(0, len(payload))]
    udp = frame[34:38] + struct.pack("!HH", 8 + len(payload), 0)
    ip = bytearray(frame[14:34])
    ip[2:4] = struct.pack("!H", 20 + len(udp) + len(payload))
    ip[10:12] = b"\0\0"
    total = sum(struct.unpack("!10H", ip))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    ip[10:12] = struct.pack("!H", ~total & 0xffff)
    return bytes(frame[:14] + ip + udp + payload)


@pytest.mark.smoke
def test_flood(pair):
    """100,000 datagrams of rubbish and of replays, as if from the peer: new flows still arrive."""
    fw1, fw2 = pair
    chance = random.Random(11)
    with Tap(fw2) as tap:
        ctgen(fw1, "create", "-n", 2000)
        wait_holds(fw2, 2000)
        captured = []
        wait_for(lambda: captured.append(tap.receive(1)) or len([f for f in captured if f]) >= 100,
                 30, "enough datagrams to replay", 0)
        captured = [frame for frame in captured if frame]
        rubbish = [spoiled(frame, chance) for frame in captured for _ in range(5)]
        before = stats(fw2)["rejected"]

        def flood(_stop):
            for i in range(100000):
                tap.deliver(captured[i % len(captured)] if i % 2 else rubbish[i % len(rubbish)])

        flooding = Background(flood)
        created = 0
        while flooding.running():
            ctgen(fw1, "create", "-o", 10000 + created, "-n", 1000, "-r", 10000)
            created += 1000
            # Each lot arrives while the flood goes on or has just ended.
            wait_for(lambda: count(fw2, "remote", "-p", "tcp") == 2000 + created, 30,
                     "new flows to arrive")
        flooding.join()
    after = stats(fw2)["rejected"]
    risen = {reason: after[reason] - before[reason] for reason in after if after[reason] > before[reason]}
    print(f"{created} flows arrived meanwhile; refused: {risen}")
    for reason in ("replay_total", "bad_tag_total", "malformed_total"):
        assert risen.get(reason, 0) > 0, reason
    assert sum(risen.values()) > 10000
    assert created >= 1000
    assert peer(fw2)["state"] == "up" and stats(fw2)["peers"]["fw1"]["epochs_total"] == 1
    wait_equal(fw2)


def test_flood_from_elsewhere(pair):
    """Rubbish from other ports and addresses of the link."""
    fw1, fw2 = pair
    fw1.ip("addr add 10.9.9.77/24 dev sync0")

    def flood(_stop):
        def send():
            socks = []
            for address in (fw1.sync_address, "10.9.9.77"):
                socks.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                socks[-1].setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
                socks[-1].bind((address, 0))
            noise = random.Random(5).randbytes(1200)
            for i in range(50000):
                try:
                    socks[i % 2].sendto(noise[:i % 1200], (fw2.sync_address, PORT))
                except OSError:
                    pass
        in_netns(fw1.ns, send)
    flooding = Background(flood)
    created = 0
    while flooding.running():
        ctgen(fw1, "create", "-o", created, "-n", 1000, "-r", 10000)
        created += 1000
        wait_for(lambda: count(fw2, "remote", "-p", "tcp") == created, 30, "new flows to arrive")
    flooding.join()
    link = stats(fw2)["links"]["ha0"]
    assert link["unknown_source_total"] + stats(fw2)["rejected"]["malformed_total"] > 1000
    assert peer(fw2)["state"] == "up"
    wait_equal(fw2)


def test_off_link(pair):
    """What has crossed a router (TTL below 255) is not even looked at."""
    fw1, fw2 = pair
    with Tap(fw2) as tap:
        frame = wait_for(lambda: tap.receive(1), 10, "a datagram")
        seen = stats(fw2)
        far = bytearray(spoiled(frame, random.Random(2)))
        far[22] = 254
        far[24:26] = b"\0\0"
        total = sum(struct.unpack("!10H", far[14:34]))
        while total >> 16:
            total = (total & 0xffff) + (total >> 16)
        far[24:26] = struct.pack("!H", ~total & 0xffff)
        for _ in range(500):
            tap.deliver(bytes(far))
        ctgen(fw1, "create", "-n", 100)
        wait_holds(fw2, 100)
        assert stats(fw2)["rejected"] == seen["rejected"]
