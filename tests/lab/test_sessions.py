# SPDX-License-Identifier: GPL-3.0-or-later
"""Real sessions across a failover: FTP, TFTP, SYN proxy, scaled windows, zones, IPv6 masquerade."""

import contextlib
import ftplib
import socket
import struct
import threading

import pytest

from ctnl import EXPECTED, Kernel, flatten
from lab import (CLIENT, HERE, LAN_VIP, SERVER, SERVER6, WAN_VIP, WAN_VIP6, Lab, Node, Traffic, in_netns,
                 passed, wait_for)
from tools import liberal, takeover, wait_equal, wait_proof

TIMEOUT_S = 20
INSIDE, INSIDE6 = "10.1.0.100", "fd00:1::100"      # their names are longer than what they are translated to


@pytest.fixture
def lab(bin_dir):
    with Lab(bin_dir, ruleset=HERE / "sessions.nft") as topology:
        topology.client.ip(f"addr add {INSIDE}/24 dev lan0", f"addr add {INSIDE6}/64 dev lan0 nodad")
        yield topology


def start(lab):
    for fw in (lab.fw1, lab.fw2):
        fw.start_ctsyncd()
    lab.fw1.ctsync("takeover")
    lab.fw2.wait_ready()


def fail_over(lab):
    """fw2 has everything, fw1 dies, fw2 takes over."""
    wait_equal(lab.fw2)
    wait_proof(lab.fw2)
    lab.fw1.kill()
    answer = takeover(lab.fw2)
    assert answer["failed"] == 0 and answer["without_master"] == answer["without_helper"] == 0, answer
    lab.fw2.take_addresses()


def flows(fw):
    with Kernel(fw.ns) as kernel:
        return [flatten(f) for f in kernel.flows()]


def expects(fw):
    with Kernel(fw.ns) as kernel:
        return [flatten(e) for e in kernel.expects()]


# -- servers --------------------------------------------------------------------------

class Server:
    """Threads in a node: serve(connection) for each connection to (address, port)."""

    def __init__(self, node, address, port, serve):
        self.serve = serve
        self.errors = []
        self.open = []
        self.threads = []
        in_netns(node.ns, lambda: self._listen(address, port))

    def _listen(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family)
        self._start(self._accept)

    def _start(self, function, *args):
        # A thread stays in the namespace of the one that makes it.
        thread = threading.Thread(target=function, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _where = self.listener.accept()
                connection.settimeout(TIMEOUT_S)
                self.open.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection):
        try:
            self.serve(connection)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        """End the threads, and close what they used after that: a number is given out again at once."""
        for sock in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(TIMEOUT_S)
        for sock in (self.listener, *self.open):
            sock.close()


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


FILE = bytes(range(256)) * 600


def ftp_server(control):
    """Enough of FTP: one file, read in all modes; what is stored is thrown away."""
    family, address = control.family, control.getsockname()[0]
    peer, listener = None, None

    def say(line):
        control.sendall(line.encode() + b"\r\n")

    def data():
        if listener is None:
            return socket.create_connection(peer, TIMEOUT_S, (address, 0))
        with listener:
            listener.settimeout(TIMEOUT_S)
            return listener.accept()[0]

    say("220 ready")
    with control.makefile("rb") as lines:
        for line in lines:
            command, _, argument = line.decode().strip().partition(" ")
            if command == "PORT":
                n = argument.split(",")
                peer, listener = (".".join(n[:4]), int(n[4]) << 8 | int(n[5])), None
                say("200 yes")
            elif command == "EPRT":
                _, _, host, port, _ = argument.split("|")
                peer, listener = (host, int(port)), None
                say("200 yes")
            elif command in ("PASV", "EPSV"):
                listener = socket.create_server((address, 0), family=family)
                port = listener.getsockname()[1]
                if command == "PASV":
                    say(f"227 Entering Passive Mode ({address.replace('.', ',')},{port >> 8},{port & 255}).")
                else:
                    say(f"229 Entering Extended Passive Mode (|||{port}|)")
            elif command == "RETR":
                with data() as connection:
                    say("150 here it comes")
                    connection.sendall(FILE)
                say("226 done")
            elif command == "QUIT":
                say("221 bye")
                return
            else:
                say("230 welcome" if command == "USER" else "200 yes")


# -- FTP -------------------------------------------------------------------------------

class Ftp:
    """A session, in active or passive mode, of a client in `node`."""

    def __init__(self, node, host, passive, source=None):
        self.node, self.passive = node, passive
        self.source = source and (source, 0)
        self.ftp = ftplib.FTP()
        self.ftp.trust_server_pasv_ipv4_address = True
        self.ftp.set_pasv(passive)
        self._in(lambda: self.ftp.connect(host, 21, TIMEOUT_S, source_address=self.source))
        self._in(lambda: self.ftp.login("anybody"))
        self.waiting = None

    def _in(self, function):
        return in_netns(self.node.ns, function)

    def fetch(self):
        """The file, over a new data connection."""
        pieces = []
        self._in(lambda: self.ftp.retrbinary("RETR file", pieces.append))
        return b"".join(pieces)

    def announce(self):
        """A port is told, but not used yet."""
        self.waiting = self._in(self.ftp.makepasv if self.passive else self.ftp.makeport)

    def use(self):
        """The file, over what was announced."""
        if self.passive:
            data = self._in(lambda: socket.create_connection(self.waiting, TIMEOUT_S, self.source))
            self.ftp.sendcmd("RETR file")
        else:
            self.ftp.sendcmd("RETR file")
            with self.waiting:
                self.waiting.settimeout(TIMEOUT_S)
                data = self.waiting.accept()[0]
        with data, data.makefile("rb") as stream:
            content = stream.read()
        self.ftp.voidresp()
        return content


def ftp_sessions(lab):
    """{name: Ftp}: both modes, both families, from inside through the source NAT and from outside to
    the port forward."""
    sessions = {}
    for family, server, source, vip in ((4, SERVER, INSIDE, WAN_VIP), (6, SERVER6, INSIDE6, WAN_VIP6)):
        for passive in (False, True):
            mode = "passive" if passive else "active"
            sessions[f"{mode}, v{family}, outwards"] = Ftp(lab.client, server, passive, source)
            sessions[f"{mode}, v{family}, inwards"] = Ftp(lab.server, vip, passive)
    return sessions


def test_ftp(lab):
    """The control connection goes on; data connections that were told of before and after the failover."""
    servers = [Server(node, address, 21, ftp_server)
               for node, address in ((lab.server, SERVER), (lab.server, SERVER6),
                                     (lab.client, INSIDE), (lab.client, INSIDE6))]
    start(lab)
    sessions = ftp_sessions(lab)
    for name, session in sessions.items():
        assert session.fetch() == FILE, name
        session.announce()
    assert len(expects(lab.fw1)) == len(sessions)
    assert any(f.get("seqadj_orig.after") for f in flows(lab.fw1))
    assert any(f.get("seqadj_reply.after") for f in flows(lab.fw1))
    fail_over(lab)
    assert len(expects(lab.fw2)) == len(sessions)
    for name, session in sessions.items():
        assert session.use() == FILE, name
    assert expects(lab.fw2) == []
    for name, session in sessions.items():
        assert session.fetch() == FILE, name
        session.ftp.quit()
    related = [f for f in flows(lab.fw2) if "master.ip.src" in f]
    assert len(related) >= 2 * len(sessions) and all(f["status"] & EXPECTED for f in related)
    assert lab.fw2.drops() == {"invalid": 0, "unknown": 0}
    for server in servers:
        server.close()
        assert server.errors == []


# -- TFTP ------------------------------------------------------------------------------

class Tftp:
    """A transfer of blocks of 512 bytes; the server answers when it is told to."""

    BLOCKS = 40

    def __init__(self, lab, client, server):
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        request, self.server, self.client = (
            in_netns(node.ns, lambda: socket.socket(family, socket.SOCK_DGRAM))
            for node in (lab.server, lab.server, lab.client))
        for sock, where in ((request, (server, 69)), (self.server, (server, 0)), (self.client, (client, 0))):
            sock.settimeout(TIMEOUT_S)
            sock.bind(where)
        self.block = 0
        with request:
            self.client.sendto(b"\0\1file\0octet\0", (server, 69))
            self.peer = request.recvfrom(600)[1]

    def go_on(self, blocks):
        """From the server, and each acknowledged."""
        for _ in range(blocks):
            self.block += 1
            sent = struct.pack("!HH", 3, self.block) + FILE[self.block:self.block + 512]
            self.server.sendto(sent, self.peer)
            got, where = self.client.recvfrom(600)
            assert got == sent
            self.client.sendto(struct.pack("!HH", 4, self.block), where)
            assert struct.unpack("!HH", self.server.recv(600)) == (4, self.block)

    def close(self):
        self.server.close()
        self.client.close()


def test_tftp(lab):
    """Transfers that are under way, and such that have been asked for, at the failover."""
    start(lab)
    pairs = ((INSIDE, SERVER), (INSIDE6, SERVER6))
    running, asked = ([Tftp(lab, *pair) for pair in pairs] for _ in range(2))
    for transfer in running:
        transfer.go_on(20)
    assert len(expects(lab.fw1)) == len(asked)
    fail_over(lab)
    for transfer in running + asked:
        transfer.go_on(20)
    assert expects(lab.fw2) == []
    related = [f for f in flows(lab.fw2) if "master.ip.src" in f]
    assert len(related) == 4 and all(f["status"] & EXPECTED for f in related)
    assert lab.fw2.drops() == {"invalid": 0, "unknown": 0}
    for transfer in running + asked:
        transfer.close()


# -- connections -------------------------------------------------------------------------

class Connection:
    """One to an echo server."""

    def __init__(self, node, where, source=None):
        def connect():
            family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.settimeout(TIMEOUT_S)
            if source:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(source)
            sock.connect(where)
            return sock
        self.sock = in_netns(node.ns, connect)

    def ask(self, data=b"hello"):
        self.sock.sendall(data)
        got = b""
        while len(got) < len(data):
            piece = self.sock.recv(65536)
            assert piece, "the connection was closed"
            got += piece
        assert got == data

    def close(self):
        self.sock.close()


def test_synproxy(lab):
    """A connection that the firewall has answered in the server's place."""
    server = Server(lab.server, SERVER, 5100, echo)
    start(lab)
    connections = [Connection(lab.client, (SERVER, 5100), (INSIDE, 0)) for _ in range(5)]
    for connection in connections:
        connection.ask()
    proxied = [f for f in flows(lab.fw1) if f.get("synproxy.isn")]
    assert len(proxied) == len(connections)
    assert all(f["seqadj_reply.after"] for f in proxied)
    fail_over(lab)
    for _ in range(3):
        for connection in connections:
            connection.ask(FILE)
    # and new ones
    connections.append(Connection(lab.client, (SERVER, 5100), (INSIDE, 0)))
    connections[-1].ask(FILE)
    assert lab.fw2.drops() == {"invalid": 0, "unknown": 0}
    for connection in connections:
        connection.close()
    server.close()
    assert server.errors == []


def test_masquerade(lab):
    """IPv6, translated to whatever address the firewall has."""
    inside = "fd00:1::200"
    lab.client.ip(f"addr add {inside}/64 dev lan0 nodad")
    for n, fw in enumerate((lab.fw1, lab.fw2), 2):
        # not the address that is the firewall's own
        fw.ip(f"addr change 2001:db8::{n}/64 dev wan0 nodad preferred_lft 0")
    server = Server(lab.server, SERVER6, 5200, echo)
    start(lab)
    connection = Connection(lab.client, (SERVER6, 5200), (inside, 0))
    connection.ask()
    assert server.open[0].getpeername()[0] == WAN_VIP6
    fail_over(lab)
    for _ in range(3):
        connection.ask(FILE)
    assert lab.fw2.drops() == {"invalid": 0, "unknown": 0}
    connection.close()
    server.close()
    assert server.errors == []


# -- zones -------------------------------------------------------------------------------

BOTH_IN_ZONES = """\
table inet more {
	chain raw {
		type filter hook prerouting priority raw + 1; policy accept;
		iifname "lan0" ct original zone set 1
	}
}
"""


class TwoNetworks:
    """A second client with the address of the first one, on a bridge and an interface of its own."""

    def __init__(self, lab):
        self.lab = lab
        self.node = Node(lab, "client2")
        lab.nodes.append(self.node)         # so that it is removed with the others
        self.node.create()
        lab.bridge.ip("link add lan1 type bridge mcast_snooping 0", "link set lan1 up")
        for node, dev in ((self.node, "lan0"), (lab.fw1, "lan1"), (lab.fw2, "lan1")):
            lab.bridge.ip(f"link add lan1-{node.name} type veth peer name {dev} netns {node.ns}",
                          f"link set lan1-{node.name} master lan1", f"link set lan1-{node.name} up")
            node.ip(f"link set {dev} up")
        self.node.ip(f"addr add {CLIENT}/24 dev lan0", f"route add default via {LAN_VIP}")
        for fw in (lab.fw1, lab.fw2):
            fw.run("nft", "-f", "-", input=BOTH_IN_ZONES)
            fw.sysctl(net__ipv4__conf__all__rp_filter=0, net__ipv4__conf__lan1__rp_filter=0,
                      net__ipv4__conf__lan0__rp_filter=0, net__ipv4__conf__wan0__rp_filter=0)
            # what belongs to the second network has mark 2
            fw.ip("rule add fwmark 2 table 2", "route add 10.1.0.0/24 dev lan1 table 2",
                  "route add 192.0.2.0/24 dev wan0 table 2")
        self.take(lab.fw1)

    def take(self, fw):
        fw.ip(f"addr replace {LAN_VIP}/32 dev lan1")
        self.node.run("ip", "neigh", "flush", "dev", "lan0")


def test_zones(lab):
    """Two connections with the same four addresses and ports, in two zones."""
    server = Server(lab.server, SERVER, 5200, echo)
    second = TwoNetworks(lab)
    start(lab)
    connections = [Connection(node, (SERVER, 5200), (CLIENT, 33333)) for node in (lab.client, second.node)]
    for n, connection in enumerate(connections):
        connection.ask(b"%d" % n)
    same = [f for f in flows(lab.fw1) if f.get("orig.proto.sport") == 33333]
    assert sorted(f["orig.zone"] for f in same) == [1, 2]
    fail_over(lab)
    second.take(lab.fw2)
    for _ in range(3):
        for n, connection in enumerate(connections):
            connection.ask(b"%d" % n + FILE)
    assert lab.fw2.drops() == {"invalid": 0, "unknown": 0}
    for connection in connections:
        connection.close()
    server.close()
    assert server.errors == []


# -- windows -----------------------------------------------------------------------------

def test_scaled_windows(lab):
    """Bulk data both ways in windows scaled by 7; nothing is invalid, and tracking gets strict again."""
    for node in (lab.client, lab.server):
        # the largest buffer decides on the scale
        node.run("sysctl", "-q", "-w", "net.ipv4.tcp_rmem=4096 131072 6291456")
    start(lab)
    traffic = Traffic(lab, connections=24, udp=0, ping=0, rate=400000)
    traffic.SIDES = {"source NAT": Traffic.SIDES["source NAT"]}
    traffic.start()
    traffic.wait_progress()
    fail_over(lab)
    established = [f for f in flows(lab.fw2) if f.get("protoinfo.tcp.state") == 3]
    assert len(established) >= 12
    assert all(f["protoinfo.tcp.wscale_orig"] == f["protoinfo.tcp.wscale_reply"] == 7 for f in established)
    assert liberal(lab.fw2) >= 12
    traffic.wait_progress()
    wait_for(lambda: liberal(lab.fw2) == 0, 60, "the kernel to track strictly again", 0.2)
    traffic.wait_progress()
    assert passed(traffic.finish())
    assert lab.fw2.drops() == {"invalid": 0, "unknown": 0}
