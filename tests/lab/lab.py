# SPDX-License-Identifier: GPL-3.0-or-later
"""The laboratory: a client, two firewalls and a server in network namespaces.

    client --- lan bridge --- fw1 --- wan bridge --- server
                    \\-------- fw2 -------/
                         fw1 === fw2            (sync0)

Both firewalls have the same ruleset (ruleset.nft).  The one that is active
holds the virtual addresses: the client's gateway on the lan side, and on the
wan side the address that connections from inside get (source NAT) and that
connections from outside are made to (port forward).

Everything lives in namespaces with a prefix of their own, so that several labs
can run side by side, and in one run directory.  `with Lab(bin_dir) as lab:`
cleans up whatever happens, also on SIGINT and SIGTERM (install_signals()).

Nothing here sleeps for luck: wait_for() polls a condition with a deadline.
"""

import base64
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

LAN_VIP, LAN_VIP6 = "10.1.0.1", "fd00:1::1"
WAN_VIP, WAN_VIP6 = "192.0.2.1", "2001:db8::1"
CLIENT, CLIENT6 = "10.1.0.10", "fd00:1::10"
SERVER, SERVER6 = "192.0.2.80", "2001:db8::80"
PORTS = "5000-5003"

CLONE_NEWNET = 0x40000000

# `ip netns exec` gives each command mounts of its own.
READ_ONLY = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'


class LabError(Exception):
    """Something in the lab did not do what it has to; the text says what."""


def wait_for(condition, timeout, what, interval=0.02):
    """Poll condition() until it is true and return its value; LabError after timeout seconds.

    what: what was waited for, or a function that says it then.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise LabError(f"timed out after {timeout} s: {text}")
        time.sleep(interval)


def install_signals():
    """Turn SIGINT and SIGTERM into SystemExit, so that `with` and `finally` clean up."""
    def handler(signum, _frame):
        # Only the first: a second one must not interrupt the clean-up that this one starts.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + signum)
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _signals_ignored():
    """For the clean-up itself: a second Ctrl-C must not leave namespaces behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, action in old.items():
            signal.signal(signum, action)


def in_netns(ns, function):
    """Run function() in a thread that entered the namespace; its sockets stay there."""
    result = {}

    def body():
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{ns}", "rb") as fp:
                if libc.setns(fp.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {ns}")
            result["value"] = function()
        except BaseException as error:  # pylint: disable=broad-except
            result["error"] = error

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if "error" in result:
        raise result["error"]
    return result["value"]


def _gratuitous_arp(mac, address):
    ip = socket.inet_aton(address)
    return (b"\xff" * 6 + mac + b"\x08\x06" +
            struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + b"\0" * 6 + ip)


def _neighbour_advertisement(mac, address):
    src = socket.inet_pton(socket.AF_INET6, address)
    dst = socket.inet_pton(socket.AF_INET6, "ff02::1")
    flags = 0xa0000000  # router, override
    body = struct.pack("!BBHI", 136, 0, 0, flags) + src + b"\x02\x01" + mac
    pseudo = src + dst + struct.pack("!II", len(body), 58)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xffff) + body[4:]
    header = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + src + dst
    return b"\x33\x33\0\0\0\x01" + mac + b"\x86\xdd" + header + body


class Node:
    """One network namespace and the processes that were started in it."""

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.ns = f"{lab.prefix}-{name}"
        self.processes = []

    def create(self):
        """The namespace, with nothing in it but a loopback."""
        _batch(["ip"], [f"netns add {self.ns}"])
        self.sysctl(net__ipv6__conf__default__accept_dad=0, net__ipv6__conf__default__accept_ra=0)
        self.ip("link set lo up")

    def command(self, args):
        return ["ip", "netns", "exec", self.ns, *map(str, args)]

    def run(self, *args, check=True, timeout=60, **kwargs):
        """Run a program to its end; CompletedProcess with text output."""
        done = subprocess.run(self.command(args), text=True, capture_output=True,
                              timeout=timeout, check=False, **kwargs)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(map(str, args))}: exit {done.returncode}: "
                           f"{(done.stderr or done.stdout).strip()}")
        return done

    def spawn(self, *args, log, stdout=None):
        """Start a program; its stderr (and stdout, if not given) goes to `log` in the run directory."""
        with open(self.lab.run_dir / log, "ab") as fp:
            process = subprocess.Popen(self.command(args), stdin=subprocess.DEVNULL,
                                       stdout=stdout or fp, stderr=fp)
        self.processes.append(process)
        return process

    def ip(self, *lines):
        """A batch of ip(8) commands in this namespace."""
        _batch(["ip", "-n", self.ns], lines)

    def sysctl(self, **values):
        """Set sysctls; '__' stands for a dot: net__ipv4__ip_forward=1."""
        self.run("sysctl", "-q", "-w", *(f"{k.replace('__', '.')}={v}" for k, v in values.items()))

    def pids(self):
        done = subprocess.run(["ip", "netns", "pids", self.ns], text=True, capture_output=True,
                              check=False)
        return [int(pid) for pid in done.stdout.split()]

    def kill_all(self):
        """SIGKILL to every process in the namespace, and reap those that we started."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(timeout=10)
        self.processes.clear()


def _batch(command, lines):
    if not lines:
        return
    done = subprocess.run([*command, "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")


class Firewall(Node):
    """A firewall node: ruleset, virtual addresses, ctsyncd, sudden death."""

    def __init__(self, lab, name, number):
        super().__init__(lab, name)
        self.number = number
        self.sync_address = f"10.9.9.{number}"
        self.sync_address6 = f"fd00:9::{number}"
        self.dir = lab.run_dir / name
        self.dir.mkdir(mode=0o755)
        self.socket = lab.run_dir / f"{name}.sock"
        self.config = lab.run_dir / f"{name}.conf"
        self.daemon = None
        self.read_only = False          # the daemon that is started next cannot set sysctls

    @property
    def peer(self):
        return self.lab.fw2 if self is self.lab.fw1 else self.lab.fw1

    # -- firewall ---------------------------------------------------------

    def configure(self):
        """Forwarding, conntrack settings and ruleset, as after a boot."""
        self.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        self.run("nft", "-f", self.lab.ruleset)
        # Exists only once a rule refers to conntrack.
        self.sysctl(net__netfilter__nf_conntrack_tcp_loose=0)

    def drops(self):
        """Packets dropped in prerouting: {"invalid": n, "unknown": n}."""
        listing = json.loads(self.run("nft", "-j", "list", "counters").stdout)
        return {c["counter"]["name"]: c["counter"]["packets"]
                for c in listing["nftables"] if "counter" in c}

    def kernel_count(self):
        return int(self.run("conntrack", "-C").stdout)

    def take_addresses(self):
        """Get the virtual addresses and tell the neighbours."""
        self.ip(f"addr replace {LAN_VIP}/24 dev lan0", f"addr replace {WAN_VIP}/24 dev wan0",
                f"addr replace {LAN_VIP6}/64 dev lan0 nodad",
                f"addr replace {WAN_VIP6}/64 dev wan0 nodad")
        self.announce()

    def drop_addresses(self):
        self.ip(f"addr del {LAN_VIP}/24 dev lan0", f"addr del {WAN_VIP}/24 dev wan0",
                f"addr del {LAN_VIP6}/64 dev lan0", f"addr del {WAN_VIP6}/64 dev wan0")

    def announce(self):
        """Gratuitous ARP and unsolicited neighbour advertisements for the virtual addresses."""
        def send():
            for dev, v4, v6 in (("lan0", LAN_VIP, LAN_VIP6), ("wan0", WAN_VIP, WAN_VIP6)):
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
                    sock.bind((dev, 0))
                    mac = sock.getsockname()[4]
                    for _ in range(2):
                        sock.send(_gratuitous_arp(mac, v4))
                        sock.send(_neighbour_advertisement(mac, v6))
        in_netns(self.ns, send)

    def cut(self):
        """Unplug all cables."""
        self.lab.bridge.ip(f"link set lan-{self.name} down", f"link set wan-{self.name} down")
        self.ip("link set sync0 down", "link set lan0 down", "link set wan0 down")

    def kill(self):
        """Die as in a power cut: links first, then every process."""
        self.cut()
        self.kill_all()
        self.daemon = None

    def boot(self):
        """Come back after kill(), empty: no entries, no virtual addresses, no daemon, no former role."""
        shutil.rmtree(self.dir)
        self.dir.mkdir(mode=0o755)
        self.run("conntrack", "-F", check=False)
        self.run("nft", "flush", "ruleset")
        self.lab.bridge.ip(f"link set lan-{self.name} up", f"link set wan-{self.name} up")
        self.ip("link set sync0 up", "link set lan0 up", "link set wan0 up")
        self._addresses()
        self.configure()

    def _addresses(self):
        """The node's own addresses; the virtual ones go."""
        own = self.number + 1
        self.ip("addr flush dev lan0 scope global", "addr flush dev wan0 scope global",
                "addr flush dev sync0 scope global",
                f"addr add 10.1.0.{own}/24 dev lan0", f"addr add fd00:1::{own}/64 dev lan0 nodad",
                f"addr add 192.0.2.{own}/24 dev wan0",
                f"addr add 2001:db8::{own}/64 dev wan0 nodad",
                f"addr add {self.sync_address}/24 dev sync0",
                f"addr add {self.sync_address6}/64 dev sync0 nodad")

    # -- ctsyncd ----------------------------------------------------------

    def write_config(self, inject="commit", transport="udp", ipv6=False, extra="", key_file=None,
                     links=None, boot_wait_s=30):
        """Write the configuration of ctsyncd and return its path.

        `links` replaces the one link between the firewalls, `extra` is appended, both as they are.
        """
        mine, theirs = self.sync_address, self.peer.sync_address
        if ipv6:
            mine, theirs = self.sync_address6, self.peer.sync_address6
        if links is None:
            links = (f'{{ name = "ha0"; transport = "{transport}"; interface = "sync0"; '
                     f'local = "{mine}"; port = 3790;\n'
                     f'    peers = ( {{ name = "{self.peer.name}"; address = "{theirs}"; }} ); }}')
        self.config.write_text(f"""\
node = "{self.name}";
cluster = "lab";
key_file = "{key_file or self.lab.key_file}";
runtime_dir = "{self.dir}";
links = (
  {links}
);
control = {{ socket = "{self.socket}"; }};
takeover = {{ inject = "{inject}"; boot_wait_s = {boot_wait_s}; }};
{extra}
""")
        return self.config

    def start_ctsyncd(self, wait=True, program="ctsyncd", **config):
        """Start the daemon (config: see write_config) and wait until its control socket answers."""
        if config or not self.config.exists():
            self.write_config(**config)
        self.daemon = self.spawn(*self.daemon_command(program), log=f"{self.name}-ctsyncd.log")
        if wait:
            wait_for(self._daemon_answers, 10, f"{self.name}: ctsyncd to answer")
        return self.daemon

    def daemon_command(self, program):
        """What start_ctsyncd() starts."""
        command = [self.lab.bin(program), "-c", self.config]
        return ["sh", "-c", READ_ONLY, "sh", *command] if self.read_only else command

    def _daemon_answers(self):
        if self.daemon.poll() is not None:
            raise LabError(f"{self.name}: ctsyncd ended with exit status {self.daemon.returncode}:\n"
                           f"{self.log_tail()}")
        return self.ctsync("status", check=False).returncode == 0

    def stop_ctsyncd(self, signum=signal.SIGTERM, timeout=10):
        """End the daemon with a signal and return its exit status."""
        self.daemon.send_signal(signum)
        status = self.daemon.wait(timeout=timeout)
        self.processes.remove(self.daemon)
        self.daemon = None
        return status

    def ctsync(self, *args, check=True, timeout=60):
        """ctsync against this node's daemon; CompletedProcess."""
        return self.run(self.lab.bin("ctsync"), "-s", self.socket, *args, check=check, timeout=timeout)

    def status(self):
        """`ctsync --json status` as a dictionary, or None if the daemon does not answer."""
        done = self.ctsync("--json", "status", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def ready(self):
        return self.ctsync("ready", check=False).returncode == 0

    def in_sync(self):
        """True if this node's copy of its peer is equal, says the daemon."""
        status = self.status()
        return bool(status) and any(p["node"] == self.peer.name and p["in_sync"]
                                    for p in status["peers"])

    def wait_ready(self, timeout=30):
        """Until the node could take over now: `ctsync ready` and its peer in sync."""
        wait_for(lambda: self.ready() and self.in_sync(), timeout,
                 f"{self.name} to be ready and in sync", 0.05)

    def log_tail(self, lines=20):
        path = self.lab.run_dir / f"{self.name}-ctsyncd.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


class Lab:
    """The whole topology.  bin_dir: where ctsyncd, ctsync and ctlab-traffic are."""

    _count = 0
    firewall = Firewall         # what fw1 and fw2 are

    def __init__(self, bin_dir, keep=False, ruleset=None, conntrack_max=None):
        self.bin_dir = Path(bin_dir).resolve()
        self.keep = keep                # keep the run directory (logs) when done
        self.ruleset = Path(ruleset or HERE / "ruleset.nft")
        self.conntrack_max = conntrack_max
        Lab._count += 1
        self.prefix = f"ct{os.getpid()}x{Lab._count}"
        self.run_dir = Path(tempfile.mkdtemp(prefix=f"ctlab-{self.prefix[2:]}-"))
        self.run_dir.chmod(0o755)       # daemons that drop their privileges look into it
        self.key_file = self.run_dir / "key"
        self._write_key(self.key_file)
        self._restore = {}
        self.bridge = Node(self, "br")
        self.client = Node(self, "client")
        self.server = Node(self, "server")
        self.fw1 = self.firewall(self, "fw1", 1)
        self.fw2 = self.firewall(self, "fw2", 2)
        self.nodes = [self.bridge, self.client, self.server, self.fw1, self.fw2]

    def bin(self, name):
        path = self.bin_dir / name
        if not path.exists():
            raise LabError(f"{path} is missing: build first")
        return path

    @staticmethod
    def _write_key(path):
        path.touch(mode=0o600)
        path.write_text(f"1 {base64.b64encode(os.urandom(32)).decode()}\n")

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, kind, _value, _trace):
        # What failed is looked into afterwards.
        if kind is not None and kind is not SystemExit:
            self.keep = True
        self.down()

    # -- building ---------------------------------------------------------

    def up(self):
        if os.geteuid() != 0:
            raise LabError("network namespaces need root")
        self._raise_limits()
        for node in self.nodes:
            node.create()
        self._cables()
        self._hosts()
        for fw in (self.fw1, self.fw2):
            fw.ip("link set lan0 up", "link set wan0 up", "link set sync0 up")
            fw._addresses()
            fw.configure()
        self._activate()

    def _activate(self):
        """Somebody gets the virtual addresses."""
        self.fw1.take_addresses()
        wait_for(self.connected, 10, "client to reach server through fw1")

    def _raise_limits(self):
        """nf_conntrack_max is global: raise it for tests of scale, restore it in down()."""
        if self.conntrack_max is None:
            return
        for name, value in (("nf_conntrack_max", self.conntrack_max),
                            ("nf_conntrack_buckets", self.conntrack_max // 4)):
            path = Path("/proc/sys/net/netfilter") / name
            old = path.read_text().strip()
            if int(old) < value:
                self._restore[path] = old
                path.write_text(str(value))

    def _cables(self):
        self.bridge.ip(*(f"link add {b} type bridge mcast_snooping 0" for b in ("lan", "wan")),
                       "link set lan up", "link set wan up")
        plugs = [("lan", self.client), ("wan", self.server), ("lan", self.fw1), ("lan", self.fw2),
                 ("wan", self.fw1), ("wan", self.fw2)]
        for side, node in plugs:
            port = f"{side}-{node.name}"
            self.bridge.ip(f"link add {port} type veth peer name {side}0 netns {node.ns}",
                           f"link set {port} master {side}", f"link set {port} up")
        self.fw1.ip(f"link add sync0 type veth peer name sync0 netns {self.fw2.ns}")

    def _hosts(self):
        self.client.ip("link set lan0 up", f"addr add {CLIENT}/24 dev lan0",
                       f"addr add {CLIENT6}/64 dev lan0 nodad",
                       f"route add default via {LAN_VIP}", f"route add ::/0 via {LAN_VIP6}")
        # No route back to the inside: what arrives untranslated gets no answer.
        self.server.ip("link set wan0 up", f"addr add {SERVER}/24 dev wan0",
                       f"addr add {SERVER6}/64 dev wan0 nodad")
        # An address that moves twice within a second is believed.
        self.client.sysctl(net__ipv4__neigh__lan0__locktime=0)
        self.server.sysctl(net__ipv4__neigh__wan0__locktime=0)

    def connected(self):
        """True if the client reaches the server, with IPv4 and IPv6."""
        return all(self.client.run("ping", "-c", "1", "-W", "1", address, check=False).returncode == 0
                   for address in (SERVER, SERVER6))

    def shape(self, bytes_per_second):
        """Limit what reaches client and server, so that a queue stands in front of each.

        The queue lies behind the firewalls: when one dies, data that it has already passed on is still
        delivered, and the acknowledgement goes to a dead machine.
        """
        rate = max(int(bytes_per_second) * 8, 1000000)
        for port in (f"lan-{self.client.name}", f"wan-{self.server.name}"):
            self.bridge.run("tc", "qdisc", "replace", "dev", port, "root", "tbf", "rate", f"{rate}bit",
                            "burst", "64kb", "limit", "64mb")

    # -- moving -----------------------------------------------------------

    def move_addresses(self, source, target):
        """Planned move of the virtual addresses between two living firewalls."""
        source.drop_addresses()
        target.take_addresses()

    # -- cleaning up ------------------------------------------------------

    def down(self):
        """Remove everything; may be called at any time and more than once."""
        with _signals_ignored():
            for node in self.nodes:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    node.kill_all()
                subprocess.run(["ip", "netns", "del", node.ns], capture_output=True, check=False)
            for path, value in self._restore.items():
                path.write_text(value)
            self._restore.clear()
            if self.keep:
                print(f"logs kept in {self.run_dir}", file=sys.stderr)
            else:
                shutil.rmtree(self.run_dir, ignore_errors=True)


class Traffic:
    """Traffic programs on both sides of the firewalls: outwards through the source NAT, and inwards
    through the port forward, IPv4 and IPv6."""

    # name of the side: where its client runs, what it connects to
    SIDES = {
        "source NAT": ("client", (f"{SERVER}:{PORTS}", f"[{SERVER6}]:{PORTS}")),
        "port forward": ("server", (f"{WAN_VIP}:{PORTS}", f"[{WAN_VIP6}]:{PORTS}")),
    }

    def __init__(self, lab, connections=600, udp=40, ping=20, rate=None, grace=10, shape=None,
                 options=()):
        """connections: TCP, in all; a third each of downloads, uploads and numbered messages.

        rate: bytes/s of each connection and direction; by default what two cores carry easily.
        shape: keep a queue in front of both ends (Lab.shape); by default unless there are so many
        connections that the queue would be seconds long.
        """
        self.lab = lab
        self.per_kind = max(1, round(connections / 6))
        self.udp = udp
        self.ping = ping
        self.rate = rate or min(16384, 10000000 // connections)
        self.grace = grace
        self.options = list(options)
        self.servers = []
        self.clients = {}
        self.marks = 0
        if shape or (shape is None and connections <= 2000):
            # Four of the six groups send towards each end; slightly less than they want.
            lab.shape(self.per_kind * 4 * self.rate)

    def _path(self, side, suffix):
        return self.lab.run_dir / f"traffic-{side.replace(' ', '-')}.{suffix}"

    def start(self, timeout=60):
        """Start servers and clients; returns when every connection carries data."""
        program = self.lab.bin("ctlab-traffic")
        for node, addresses in ((self.lab.server, (SERVER, f"[{SERVER6}]")),
                                (self.lab.client, (CLIENT, f"[{CLIENT6}]"))):
            ready = self._path(node.name, "server-ready")
            ready.unlink(missing_ok=True)
            listen = [f"--listen={address}:{PORTS}" for address in addresses]
            self.servers.append(node.spawn(program, "server", *listen, f"--ready-file={ready}",
                                           log=f"traffic-server-{node.name}.log"))
            wait_for(ready.exists, 10, f"traffic server on {node.name}")
        for side in self.SIDES:
            self._start_client(program, side)
        for side, process in self.clients.items():
            wait_for(lambda s=side, p=process: self._is_ready(s, p), timeout, f"traffic: {side}")

    def _start_client(self, program, side):
        node, targets = self.SIDES[side]
        node = getattr(self.lab, node)
        outward = side == "source NAT"
        args = [f"--target={t}" for t in targets]
        args += [f"--{kind}={self.per_kind}" for kind in ("download", "upload", "messages")]
        args += [f"--udp={self.udp // 2}", f"--rate={self.rate}", f"--grace={self.grace}",
                 f"--ready-file={self._path(side, 'ready')}",
                 f"--record-file={self._path(side, 'records')}",
                 f"--status-file={self._path(side, 'status')}"]
        if outward:     # an echo request to the wan address ends on the firewall
            args.append(f"--ping={self.ping}")
        for suffix in ("ready", "status"):
            self._path(side, suffix).unlink(missing_ok=True)
        with open(self._path(side, "json"), "wb") as out:
            self.clients[side] = node.spawn(program, "client", *args, *self.options, stdout=out,
                                            log=f"traffic-{side.replace(' ', '-')}.log")

    def _is_ready(self, side, process):
        if process.poll() is not None:
            raise LabError(f"traffic: {side}: could not establish everything, exit {process.returncode}")
        return self._path(side, "ready").exists()

    def status(self):
        """The latest status of each side, {} before the first."""
        result = {}
        for side in self.SIDES:
            with contextlib.suppress(FileNotFoundError, ValueError):
                result[side] = json.loads(self._path(side, "status").read_text())
        return result

    def wait_progress(self, timeout=30):
        """Until every connection has made progress after this call, in every direction."""
        self.marks += 1
        for process in self.clients.values():
            process.send_signal(signal.SIGUSR1)

        def all_moved():
            status = self.status()
            return len(status) == len(self.SIDES) and all(
                s["marks"] == self.marks and s["progressed"] == s["connections"]
                for s in status.values())
        wait_for(all_moved, timeout, "every connection to make progress", 0.05)

    def records(self):
        """What is known of each TCP connection that has ended: see traffic.c."""
        return [{"side": side, **json.loads(line)} for side in self.SIDES
                for line in self._path(side, "records").read_text().splitlines() if line.endswith("}")]

    def running(self):
        return all(p.poll() is None for p in self.clients.values())

    def finish(self):
        """Stop, let every connection prove that it lives, and return {side: report}."""
        for process in self.clients.values():
            process.send_signal(signal.SIGTERM)
        reports = {}
        for side, process in self.clients.items():
            process.wait(timeout=3 * self.grace + 30)
            text = self._path(side, "json").read_text()
            if not text:
                raise LabError(f"traffic: {side}: no report, exit {process.returncode}")
            reports[side] = json.loads(text)
        for process in self.servers:
            process.terminate()
            process.wait(timeout=10)
        self.clients.clear()
        self.servers.clear()
        return reports


def remove_stale():
    """Remove the namespaces of labs whose process is gone (killed with SIGKILL); their names."""
    names = [n for n in os.listdir("/run/netns") if re.match(r"ct\d+x\d+-", n)] \
        if os.path.isdir("/run/netns") else []
    stale = [n for n in names if not os.path.exists("/proc/" + re.match(r"ct(\d+)x", n).group(1))]
    for ns in stale:
        pids = subprocess.run(["ip", "netns", "pids", ns], text=True, capture_output=True, check=False)
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", ns], capture_output=True, check=False)
    return stale


def passed(reports):
    """True if nothing was lost, reset or corrupt on any side."""
    return all(report["ok"] for report in reports.values())


def main(argv):
    """Put the topology up for work by hand, or remove what killed labs left behind."""
    if argv == ["clean"]:
        print("\n".join(remove_stale()))
        return 0
    if len(argv) != 2 or argv[0] != "up":
        print("usage: lab.py up BIN_DIR | clean", file=sys.stderr)
        return 2
    install_signals()
    with Lab(argv[1]) as lab:
        for fw in (lab.fw1, lab.fw2):
            fw.write_config()
            print(f"{fw.name}: ip netns exec {fw.ns} {lab.bin_dir}/ctsyncd -c {fw.config}")
        for node in lab.nodes:
            print(f"{node.name}: namespace {node.ns}")
        print("ends, and removes everything, with Ctrl-C", flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
