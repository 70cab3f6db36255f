# SPDX-License-Identifier: GPL-3.0-or-later
"""The ground that bench.py measures on.

Namespaces with their veth, the generator, the sysctls that are raised and
restored, and one runner class per daemon.  A runner is all that differs
between the competitors: how to start one node, how to ask it how many flows
of its peer it holds, and how to make it commit them.
"""

import base64
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

ADDRESS = {"a": "10.9.9.1", "b": "10.9.9.2"}
SYNC_NET = "10.9.9.0/24"
SYNC_IF = "sync0"
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
EVENT_BUFFER = 256 << 20
LINK_BUFFER = 32 << 20

LIBC = ctypes.CDLL(None, use_errno=True)

RULESET = """
table inet fw {
	chain prerouting {
		type filter hook prerouting priority -150; policy accept;
		ct state invalid drop
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
	}
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 100.64.0.0/10 snat ip to 203.0.113.1-203.0.113.254
	}
}
"""


CUT = """
table inet cut {
	chain prerouting {
		type filter hook prerouting priority -400; policy accept;
		iifname "%s" drop
	}
}
""" % SYNC_IF


class BenchError(Exception):
    """Something that makes a measurement impossible; the text says what."""


def sh(*cmd, stdin=None, timeout=120):
    """Run a command, return its output; BenchError if it fails."""
    proc = subprocess.run(cmd, input=stdin, text=True, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    if proc.returncode != 0:
        raise BenchError("%s: exit %d: %s" % (
            " ".join(cmd), proc.returncode, proc.stderr.strip()))
    return proc.stdout


def busy_share(seconds=0.5):
    """Share of all CPUs that is in use, measured over some time."""
    def read():
        with open("/proc/stat") as f:
            cols = [int(c) for c in f.readline().split()[1:9]]
        return sum(cols), cols[3] + cols[4]
    total, idle = read()
    time.sleep(seconds)
    total2, idle2 = read()
    return 1 - (idle2 - idle) / max(1, total2 - total)


def wait_quiet(limit=30):
    """Wait until others leave the machine alone; False if they do not."""
    deadline = time.monotonic() + limit
    while busy_share() > 0.15:
        if time.monotonic() > deadline:
            return False
    return True


def wait_idle(*daemons, limit=60):
    """Wait until the daemons have used next to no CPU for 0.4 s."""
    deadline = time.monotonic() + limit
    calm = 0
    while calm < 4 and time.monotonic() < deadline:
        before = sum(d.cpu() for d in daemons)
        time.sleep(0.1)
        calm = calm + 1 if sum(d.cpu() for d in daemons) - before < 0.003 else 0
    return calm >= 4


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Sysctls:
    """Raise sysctls of the initial namespace; restore what was raised."""

    def __init__(self):
        self.saved = []

    def at_least(self, name, value):
        path = "/proc/sys/net/netfilter/" + name
        old = int(open(path).read())
        if old >= value:
            return
        with open(path, "w") as f:
            f.write(str(value))
        self.saved.append((path, old))

    def restore(self):
        for path, old in reversed(self.saved):
            with open(path, "w") as f:
                f.write(str(old))
        self.saved = []


class Namespace:
    """A network namespace that acts as a firewall: it tracks and it NATs."""

    def __init__(self, name):
        self.name = name
        sh("ip", "netns", "add", name)
        self.exec("ip", "link", "set", "lo", "up")
        self.exec("nft", "-f", "-", stdin=RULESET)
        self.write("net/netfilter/nf_conntrack_tcp_loose", 0)
        self.write("net/ipv4/ip_forward", 1)

    def exec(self, *cmd, **kw):
        return sh("ip", "netns", "exec", self.name, *cmd, **kw)

    @contextlib.contextmanager
    def inside(self):
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open("/run/netns/" + self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if LIBC.setns(there, CLONE_NEWNET) != 0:
                raise BenchError("cannot enter namespace " + self.name)
            yield
        finally:
            LIBC.setns(home, CLONE_NEWNET)
            os.close(home)
            os.close(there)

    def write(self, name, value):
        with self.inside(), open("/proc/sys/" + name, "w") as f:
            f.write(str(value))

    def tracked(self):
        """Number of entries in the table, without a dump."""
        with self.inside():
            return int(open(
                "/proc/sys/net/netfilter/nf_conntrack_count").read())

    def wire(self):
        """(received, sent) bytes of the synchronisation link."""
        with self.inside():
            for line in open("/proc/net/dev"):
                name, _, rest = line.partition(":")
                if name.strip() == SYNC_IF:
                    cols = rest.split()
                    return int(cols[0]), int(cols[8])
        raise BenchError("no interface %s in %s" % (SYNC_IF, self.name))

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False,
                       stderr=subprocess.DEVNULL)


class Lab:
    """Two firewalls with a link, and a third namespace for the floor."""

    def __init__(self, bindir):
        self.ctgen = os.path.join(bindir, "ctlab-ctgen")
        self.ns = {}
        prefix = "ctbench%d" % os.getpid()
        try:
            for key in ("a", "b", "floor"):
                self.ns[key] = Namespace(prefix + key)
            a, b = self.ns["a"], self.ns["b"]
            sh("ip", "link", "add", SYNC_IF, "netns", a.name, "type", "veth",
               "peer", "name", SYNC_IF, "netns", b.name)
            for key in ("a", "b"):
                ns = self.ns[key]
                ns.exec("ip", "addr", "add", ADDRESS[key] + "/24",
                        "dev", SYNC_IF)
                ns.exec("ip", "link", "set", SYNC_IF, "up")
        except BaseException:
            self.close()
            raise

    def cut(self, off):
        """Drop everything that comes over the link, or let it pass again."""
        for key in ("a", "b"):
            if off:
                self.ns[key].exec("nft", "-f", "-", stdin=CUT)
            else:
                self.ns[key].exec("nft", "delete", "table", "inet", "cut")

    def gen_start(self, where, *args, **kw):
        return subprocess.Popen(
            ["ip", "netns", "exec", self.ns[where].name, self.ctgen,
             *map(str, args)], stdout=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent, **kw)

    def gen(self, where, *args, timeout=600):
        """Run the generator; its JSON.  Failed entries are an error."""
        proc = self.gen_start(where, *args)
        try:
            out, _ = proc.communicate(timeout=timeout)
        finally:
            if proc.poll() is None:
                proc.kill()
                proc.wait()
        res = json.loads(out) if out.startswith("{") else {}
        if proc.returncode != 0:
            raise BenchError("ctlab-ctgen %s: %s" % (
                " ".join(map(str, args)), res.get("errors", "failed")))
        return res

    def flush(self, where):
        """Empty a table; entries with undelivered events take a moment."""
        deadline = time.monotonic() + 20
        while True:
            self.gen(where, "flush")
            if self.ns[where].tracked() < 100:
                return
            if time.monotonic() > deadline:
                raise BenchError("table of %s does not get empty" % where)
            time.sleep(0.2)

    def difference(self, fields, limit=5):
        """Compare both kernels' tables, sync traffic aside.

        Returns (entries of a, missing on b, extra on b, samples).
        """
        opts = ("-x", SYNC_NET, "-f", fields)
        da, db = (self.gen(k, "digest", *opts) for k in ("a", "b"))
        if (da["digest"], da["entries"]) == (db["digest"], db["entries"]):
            return da["entries"], 0, 0, []
        lines = []
        for key in ("a", "b"):
            with self.gen_start(key, "list", *opts) as proc:
                lines.append(set(proc.stdout))
        missing, extra = lines[0] - lines[1], lines[1] - lines[0]
        sample = ["- " + s.strip() for s in sorted(missing)[:limit]]
        sample += ["+ " + s.strip() for s in sorted(extra)[:limit]]
        return da["entries"], len(missing), len(extra), sample

    def close(self):
        for ns in self.ns.values():
            try:
                sh("ip", "netns", "exec", ns.name, self.ctgen, "flush")
            except (BenchError, OSError, subprocess.TimeoutExpired):
                pass
            ns.remove()
        self.ns = {}


class Daemon:
    """One node of a pair.  Subclasses know the program."""

    name = ""
    event_buffer = EVENT_BUFFER     # bytes, for events of the kernel
    # What a commit by this program is expected to reproduce (ctgen --fields).
    fields = "tuples,status,mark,state,zone"

    def __init__(self, lab, key, bindir, rundir, flows):
        self.lab, self.key, self.bindir = lab, key, bindir
        self.ns = lab.ns[key]
        self.peer = "b" if key == "a" else "a"
        self.dir = os.path.join(rundir, "%s-%s" % (self.name, key))
        self.flows = flows
        self.log = None
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.conf = os.path.join(self.dir, "conf")
        with open(self.conf, "w") as f:
            f.write(self.config())
        self.proc = None

    @classmethod
    def missing(cls, bindir):
        """Why this program cannot be measured here, or None."""
        raise NotImplementedError

    def config(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def alive(self):
        """True once the daemon answers."""
        raise NotImplementedError

    def progress(self):
        """(flows of the peer that this node holds, is it sure of them?)"""
        raise NotImplementedError

    def commit_command(self):
        raise NotImplementedError

    def start(self):
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.proc = subprocess.Popen(
            ["ip", "netns", "exec", self.ns.name, *self.command()],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            preexec_fn=die_with_parent)
        deadline = time.monotonic() + 20
        while True:
            if self.proc.poll() is not None:
                raise BenchError("%s ended at start: %s" % (
                    self.name, self.log_tail()))
            try:
                if self.alive():
                    return
            except (BenchError, OSError, KeyError, ValueError):
                pass
            if time.monotonic() > deadline:
                raise BenchError("%s does not answer: %s" % (
                    self.name, self.log_tail()))
            time.sleep(0.02)

    def log_tail(self):
        with open(os.path.join(self.dir, "log")) as f:
            return " | ".join(f.read().strip().splitlines()[-4:])

    def signal(self, signum):
        self.proc.send_signal(signum)

    def kill(self):
        """End it at once, as a crash does."""
        self.proc.kill()
        self.proc.wait()
        self.proc = None
        self.log.close()

    def stop(self):
        if self.proc is None:
            return
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.proc = None
        self.log.close()

    def cpu(self):
        """CPU seconds of all threads, also of those that have ended."""
        if self.proc.poll() is not None:
            raise BenchError("%s died: %s" % (self.name, self.log_tail()))
        return time.clock_gettime((~self.proc.pid << 3) | 2)

    def rss(self):
        """Resident bytes."""
        with open("/proc/%d/smaps_rollup" % self.proc.pid) as f:
            for line in f:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024
        raise BenchError("no Rss of " + self.name)

    def commit(self):
        """Commit; (wall seconds until the table stands still, CPU seconds)."""
        cpu, begin = self.cpu(), time.monotonic()
        proc = subprocess.Popen(
            ["ip", "netns", "exec", self.ns.name, *self.commit_command()],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        ended, changed, count, used = None, begin, -1, cpu
        try:
            while ended is None or time.monotonic() < max(ended, changed) + 0.3:
                n, now = self.ns.tracked(), time.monotonic()
                if n != count:
                    changed, count, used = now, n, self.cpu()
                if ended is None and proc.poll() is not None:
                    ended, used = now, self.cpu()
                if now - begin > 300:
                    raise BenchError("commit does not end")
                time.sleep(0.005)
        finally:
            if proc.poll() is None:
                proc.kill()
                proc.wait()
        if proc.returncode != 0:
            raise BenchError("commit: exit %d: %s" % (
                proc.returncode, self.log_tail()))
        return max(ended, changed) - begin, used - cpu


class Conntrackd(Daemon):
    """conntrack-tools 1.4.7: FTFW over UDP, caches and buffers sized to fit."""

    name = "conntrackd"

    @classmethod
    def missing(cls, bindir):
        return None if shutil.which("conntrackd") else "conntrackd not found"

    def config(self):
        return """
Sync {
	Mode FTFW {
		ResendQueueSize 131072
		PurgeTimeout 60
		ACKWindowSize 300
		DisableExternalCache no
		StartupResync yes
	}
	UDP {
		IPv4_address %(local)s
		IPv4_Destination_Address %(remote)s
		Port 3780
		Interface %(dev)s
		SndSocketBuffer %(link)d
		RcvSocketBuffer %(link)d
		Checksum on
	}
}
General {
	Systemd off
	HashSize %(buckets)d
	HashLimit %(limit)d
	LogFile %(dir)s/daemon.log
	Syslog off
	LockFile %(dir)s/lock
	UNIX {
		Path %(dir)s/ctl
	}
	NetlinkBufferSize %(events)d
	NetlinkBufferSizeMaxGrowth %(events)d
	NetlinkOverrunResync yes
	Filter From Userspace {
		Protocol Accept {
			TCP
			SCTP
			UDP
			ICMP
			IPv6-ICMP
		}
		Address Ignore {
			IPv4_address 127.0.0.1
			IPv4_address %(local)s
			IPv4_address %(remote)s
		}
	}
}
""" % {
            "local": ADDRESS[self.key], "remote": ADDRESS[self.peer],
            "dev": SYNC_IF, "dir": self.dir, "link": LINK_BUFFER,
            "events": self.event_buffer, "buckets": self.flows,
            "limit": self.flows * 2 + 100000}

    def command(self):
        return ["conntrackd", "-C", self.conf]

    def kill(self):
        super().kill()
        os.unlink(os.path.join(self.dir, "lock"))   # it would not start again

    def ask(self, *args):
        return sh("conntrackd", "-C", self.conf, *args, timeout=60)

    def alive(self):
        return "cache" in self.ask("-s")

    def progress(self):
        section = ""
        for line in self.ask("-s").splitlines():
            if line.startswith("cache "):
                section = line
            if section.startswith("cache external") and \
                    "current active connections" in line:
                return int(line.split()[-1]), True
        raise BenchError("conntrackd -s shows no external cache")

    def commit_command(self):
        return ["conntrackd", "-C", self.conf, "-c"]


class Ctsyncd(Daemon):
    """Our own daemon."""

    name = "ctsyncd"
    key_line = None

    @classmethod
    def missing(cls, bindir):
        for prog in ("ctsyncd", "ctsync"):
            if not os.access(os.path.join(bindir, prog), os.X_OK):
                return "no %s in %s" % (prog, bindir)
        return None

    def config(self):
        if Ctsyncd.key_line is None:
            Ctsyncd.key_line = "1 %s\n" % base64.b64encode(
                os.urandom(32)).decode()
        keyfile = os.path.join(self.dir, "key")
        with open(os.open(keyfile, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(Ctsyncd.key_line)
        return """
node = "%(node)s";
cluster = "bench";
key_file = "%(dir)s/key";
runtime_dir = "%(dir)s";
links = (
  { name = "ha0"; transport = "udp"; interface = "%(dev)s"; local = "%(local)s";
    peers = ( { name = "%(peer)s"; address = "%(remote)s"; } ); port = 3790; }
);
control = { socket = "%(dir)s/ctl"; };
takeover = { inject = "commit"; };
kernel = { event_buffer = "%(events)dK"; };
limits = { flows = 4000000; };
""" % {
            "node": "fw-" + self.key, "peer": "fw-" + self.peer,
            "local": ADDRESS[self.key], "remote": ADDRESS[self.peer],
            "dev": SYNC_IF, "dir": self.dir, "events": self.event_buffer >> 10}

    def command(self):
        return [os.path.join(self.bindir, "ctsyncd"), "-c", self.conf]

    def ctsync(self, *args):
        return [os.path.join(self.bindir, "ctsync"), "-s",
                os.path.join(self.dir, "ctl"), *args]

    def ask(self, cmd):
        """The RESULT of a request (doc/control.md), without a process."""
        request = json.dumps({"proto": 1, "cmd": cmd}).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(60)
            s.connect(os.path.join(self.dir, "ctl"))
            s.sendall(struct.pack(">IB", len(request), 1) + request)
            with s.makefile("rb") as f:
                head = f.read(5)
                if len(head) < 5:
                    raise BenchError("%s: no answer" % cmd)
                return json.loads(f.read(struct.unpack(">I", head[:4])[0]))

    def status(self):
        return self.ask("status")

    def alive(self):
        return self.status()["node"] == "fw-" + self.key

    def proof_age(self):
        """Seconds since when its copy of the peer is known to be equal; None."""
        peer = self.status()["peers"][0]
        return (peer["verified_ms"] + 1) / 1000 if peer["in_sync"] else None

    def received(self):
        """Bytes that came over the link."""
        return self.status()["links"][0]["rx_bytes"]

    def overruns(self):
        return self.status()["kernel"]["overruns"]

    def progress(self):
        st = self.status()
        return st["remote"]["flows"], all(p["in_sync"] for p in st["peers"])

    def commit_command(self):
        return self.ctsync("commit")


RUNNERS = (Ctsyncd, Conntrackd)
