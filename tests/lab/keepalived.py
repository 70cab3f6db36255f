# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall pair whose virtual addresses real keepalived moves, and what can happen to it.

    with Pair(bin_dir, mode="scripts") as lab:
        lab.start()                         # daemons and keepalived run, fw1 is MASTER, fw2 ready
        report = measure(lab, "switch", lambda: planned_switch(lab))

Modes: "scripts": keepalived calls conf/ctsyncd-notify.sh; "follow": it calls nothing, and the role of
ctsyncd follows the addresses (takeover.follow_addresses).  The track script runs in both.

Every node has its own network namespace, its own /run and its own boot id, which is a new one after
a death.  An event is a function that does something to the pair and puts it right again; measure()
runs it under traffic that opens connections all the time, and counts what it cost.
"""

import contextlib
import json
import os
import re
import signal
import time
import uuid

from lab import (HERE, LAN_VIP, LAN_VIP6, WAN_VIP, WAN_VIP6, Firewall, Lab, LabError, Traffic,
                 wait_for)
from tools import lose

CONF = HERE.parents[1] / "conf"
MODES = ("scripts", "follow")
ADVERT_S = 0.3
PURGE_S = 5
PORTS = range(5000, 5100)

# What a notify script does, whatever calls it: the environment, a delay if there is one, a log.
NOTIFY = """\
#!/bin/sh
read -r up rest </proc/uptime
echo "$up $*" >>{dir}/notified
[ -e {dir}/delay ] && sleep "$(cat {dir}/delay)"
export CTSYNC={ctsync} CTSYNC_SOCKET={socket} CTSYNC_RUNTIME_DIR={runtime}
{conf}/ctsyncd-notify.sh "$@" 2>>{dir}/notify.log
rc=$?
read -r up rest </proc/uptime
echo "$up $* rc=$rc" >>{dir}/carried-out
exit $rc
"""

TRACK = """\
#!/bin/sh
export CTSYNC={ctsync} CTSYNC_SOCKET={socket}
exec {conf}/ctsyncd-track.sh
"""

KEEPALIVED = """\
global_defs {{
	router_id {name}
	script_user root
	vrrp_garp_master_refresh 2
}}
vrrp_script ctsync_ready {{
	script "{dir}/track"
	interval 1
	timeout 3
	fall 10
	rise 1
	weight -20
}}
vrrp_sync_group firewall {{
	group {{
		wan
		lan
	}}
	{notify}
	track_script {{
		ctsync_ready
	}}
}}
{instances}
"""

INSTANCE = """\
vrrp_instance {name} {{
	state {state}
	interface {name}0
	virtual_router_id {number}
	priority {priority}
	advert_int {advert}
	version 3
	{vmac}
	virtual_ipaddress {{
		{address}
	}}
	virtual_ipaddress_excluded {{
		{address6}
	}}
}}
"""


class Gateway(Firewall):
    """A firewall with keepalived beside ctsyncd."""

    def __init__(self, lab, name, number):
        super().__init__(lab, name, number)
        self.kdir = lab.run_dir / f"{name}-keepalived"
        self.kdir.mkdir()
        self.keepalived = None
        self.frozen = []
        self._new_boot()

    # -- the machine ----------------------------------------------------------

    def _new_boot(self):
        """Another boot id, as the kernel would have made it."""
        (self.kdir / "boot_id").write_text(f"{uuid.uuid4()}\n")

    def command(self, args):
        # `ip netns exec` has made a mount namespace already.
        mine = f"mount --bind {self.kdir}/boot_id /proc/sys/kernel/random/boot_id && exec \"$@\""
        return ["ip", "netns", "exec", self.ns, "sh", "-c", mine, "sh", *map(str, args)]

    def _addresses(self):
        super()._addresses()
        if self.lab.nat != "masquerade":
            return
        # Masquerading takes the first address of the network that the packet goes to.
        self.ip("addr flush dev wan0 scope global", f"addr add 198.18.0.{self.number + 1}/24 dev wan0",
                f"addr add 2001:db8:ffff::{self.number + 1}/64 dev wan0 nodad")

    def kill(self):
        self.thaw_quietly()
        super().kill()
        self.keepalived = None

    def boot(self):
        """Come back after kill() with nothing: no entries, no daemon, no keepalived, an empty /run."""
        self.socket.unlink(missing_ok=True)
        self._new_boot()
        self.lab.loud(self)
        super().boot()

    def write_config(self, extra="", takeover_keys="", **config):
        path = super().write_config(extra=extra, **config)
        keys = f"purge_s = {self.lab.purge_s}; {takeover_keys} "
        if self.lab.mode == "follow":
            keys += f'follow_addresses = ["{LAN_VIP}", "{WAN_VIP}", "{LAN_VIP6}", "{WAN_VIP6}"]; '
        path.write_text(path.read_text().replace("takeover = {", "takeover = { " + keys))
        return path

    # -- keepalived -----------------------------------------------------------

    def write_keepalived(self, state="BACKUP", priority=100):
        names = {"dir": self.kdir, "ctsync": self.lab.bin("ctsync"), "socket": self.socket,
                 "runtime": self.dir, "conf": CONF}
        for name, text in (("notify", NOTIFY), ("track", TRACK)):
            path = self.kdir / name
            path.write_text(text.format(**names))
            path.chmod(0o755)
        vmac = self.lab.vmac
        instances = [INSTANCE.format(
            name=side, number=number, state=state, priority=priority, advert=ADVERT_S,
            vmac=f"use_vmac {side}v\n\tvmac_xmit_base" if vmac else "",
            address=f"{v4}/{32 if vmac else 24}", address6=f"{v6}/{128 if vmac else 64}")
            for side, number, v4, v6 in (("wan", 51, WAN_VIP, WAN_VIP6), ("lan", 52, LAN_VIP, LAN_VIP6))]
        notify = f'notify "{self.kdir}/notify"' if self.lab.mode == "scripts" else ""
        (self.kdir / "keepalived.conf").write_text(KEEPALIVED.format(
            name=self.name, dir=self.kdir, notify=notify, instances="\n".join(instances)))

    def start_keepalived(self, state="BACKUP", priority=100):
        self.write_keepalived(state, priority)
        for name in ("pid", "vrrp.pid"):     # of one that was killed
            (self.kdir / name).unlink(missing_ok=True)
        program = "mount -t tmpfs none /run && exec keepalived -n -P -l -D " \
                  f"-f {self.kdir}/keepalived.conf -p {self.kdir}/pid -r {self.kdir}/vrrp.pid"
        # Of what it was before this start nothing counts.
        with open(self._keepalived_log(), "a", encoding="utf-8") as fp:
            fp.write("--- start ---\n")
        self.keepalived = self.spawn("sh", "-c", program, log=self._keepalived_log().name)

    def stop_keepalived(self, timeout=20):
        """In order: it says that it goes, and gives the addresses away."""
        self.keepalived.terminate()
        self.keepalived.wait(timeout=timeout)
        self._forget_keepalived()

    def kill_keepalived(self):
        """SIGKILL: the addresses stay, and nobody is told."""
        pids = self._keepalived_pids()
        for signum in (signal.SIGSTOP, signal.SIGKILL):     # the child must not see its parent go
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
        self.keepalived.wait(timeout=10)
        wait_for(lambda: not any(os.path.exists(f"/proc/{p}/exe") for p in pids), 10,
                 f"{self.name}: keepalived to be gone")
        self._forget_keepalived()

    def _forget_keepalived(self):
        self.processes.remove(self.keepalived)
        self.keepalived = None

    def _keepalived_pids(self):
        """The parent and its VRRP process."""
        if self.keepalived is None:
            return []
        pid = self.keepalived.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as fp:
            return [pid, *map(int, fp.read().split())]

    def _keepalived_log(self):
        return self.lab.run_dir / f"{self.name}-keepalived.log"

    def keepalived_log(self):
        path = self._keepalived_log()
        return path.read_text(errors="replace") if path.exists() else ""

    def vrrp(self):
        """What keepalived is on each side: {"lan": "MASTER", "wan": "MASTER"}; {} if it does not run."""
        if self.keepalived is None or self.keepalived.poll() is not None:
            return {}
        log = self.keepalived_log().rsplit("--- start ---\n", 1)[-1]
        return {side: state for side, state in re.findall(r"\((lan|wan)\) Entering (\w+) STATE", log)}

    def is_vrrp(self, state):
        return self.vrrp() == {"lan": state, "wan": state}

    def wait_vrrp(self, state, timeout=30):
        wait_for(lambda: self.is_vrrp(state), timeout,
                 lambda: f"{self.name}: keepalived to be {state}; it is {self.vrrp()}", 0.05)

    def has_addresses(self):
        """How many of the four virtual addresses the node has."""
        addresses = {a["local"] for link in json.loads(self.run("ip", "-j", "addr").stdout)
                     for a in link.get("addr_info", ()) if "local" in a}
        return len(addresses & {LAN_VIP, LAN_VIP6, WAN_VIP, WAN_VIP6})

    def delay_notify(self, seconds):
        """Let notify scripts wait before they do anything; 0: no more."""
        path = self.kdir / "delay"
        if seconds:
            path.write_text(f"{seconds}\n")
        else:
            path.unlink(missing_ok=True)

    def notified(self, what="notified"):
        """The states that notify scripts were called for; "carried-out": by those that have ended."""
        path = self.kdir / what
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[3] for line in lines]

    # -- what happens to a node -------------------------------------------------

    def restart_ctsyncd(self, signum=signal.SIGTERM):
        self.stop_ctsyncd(signum)
        self.start_ctsyncd()

    def freeze(self, machine=False):
        """keepalived and ctsyncd stand still; machine: nothing is forwarded either."""
        self.frozen = self._keepalived_pids() + ([self.daemon.pid] if self.daemon else [])
        for pid in self.frozen:
            os.kill(pid, signal.SIGSTOP)
        if machine:
            self.lab.silence(self)

    def thaw(self):
        self.thaw_quietly()
        self.lab.loud(self)

    def thaw_quietly(self):
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen = []

    def unplug(self):
        """Both cables out: no carrier."""
        self.lab.bridge.ip(f"link set lan-{self.name} down", f"link set wan-{self.name} down")

    def plug(self):
        self.lab.bridge.ip(f"link set lan-{self.name} up", f"link set wan-{self.name} up")

    def tcp_table(self):
        """The TCP entries of the kernel: {(source, port, destination, port): state}."""
        found = {}
        for family in ("ipv4", "ipv6"):
            listing = self.run("conntrack", "-L", "-p", "tcp", "-f", family, check=False).stdout
            for line in listing.splitlines():
                match = re.match(r"tcp +6 \d+ (\w+) src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", line)
                if match:
                    state, src, dst, sport, dport = match.groups()
                    found[(src, int(sport), dst, int(dport))] = state
        return found


class Pair(Lab):
    """The topology with two gateways.

    mode: see above.  nat: "snat" or "masquerade".  vmac: virtual addresses on a virtual MAC.
    """

    firewall = Gateway

    def __init__(self, bin_dir, mode="scripts", nat="snat", vmac=False, purge_s=PURGE_S, **options):
        self.mode = mode
        self.nat = nat
        self.vmac = vmac
        self.purge_s = purge_s
        super().__init__(bin_dir, **options)
        self.silent = set()         # ports of the bridges
        self.split = False
        self.unseen = []            # (from, to): what was opened then no other node can know
        self.ruleset = self._write_ruleset()

    def _write_ruleset(self):
        text = self.ruleset.read_text()
        text = text.replace('iifname { "lo", "sync0" } accept',
                            'iifname { "lo", "sync0" } accept\n\t\tip protocol vrrp accept')
        if self.nat == "masquerade":
            text = re.sub(r"snat ip6? to \S+", "masquerade", text)
        if self.vmac:
            text = re.sub(r'iifname "(lan|wan)0"', r'iifname { "\g<1>0", "\g<1>v" }', text)
        path = self.run_dir / "ruleset.nft"
        path.write_text(text)
        return path

    def _activate(self):
        # Who waits for an acknowledgement tries each second, not after half a minute, and goes on.
        for host in (self.client, self.server):
            with contextlib.suppress(LabError):     # older kernels
                host.sysctl(net__ipv4__tcp_rto_max_ms=1000)
            host.sysctl(net__ipv4__tcp_retries2=255, net__ipv4__tcp_syn_retries=127,
                        net__ipv4__tcp_synack_retries=255)

    def refused(self):
        """Why the daemon does not take this configuration, or None."""
        self.fw1.write_config()
        done = self.fw1.run(self.bin("ctsyncd"), "-t", "-c", self.fw1.config, check=False)
        return (done.stderr or done.stdout).strip() if done.returncode else None

    def start(self, first=None):
        """Daemons and keepalived on both; `first` (fw1) becomes the active node."""
        first = first or self.fw1
        for fw in (self.fw1, self.fw2):
            fw.start_ctsyncd()
        first.start_keepalived()
        first.wait_vrrp("MASTER")
        self.wait_role(first, "active")
        first.peer.start_keepalived()
        first.peer.wait_vrrp("BACKUP")
        self.wait_settled()
        wait_for(self.connected, 20, "client to reach server")

    # -- what happens between the nodes -----------------------------------------

    def _cut(self):
        rules = "add table bridge cut\ndelete table bridge cut\n"
        if self.silent or self.split:
            rules += "table bridge cut {\n chain forward {\n  type filter hook forward priority 0;\n"
            if self.silent:
                ports = ", ".join(f'"{port}"' for port in sorted(self.silent))
                rules += f"  iifname {{ {ports} }} drop\n  oifname {{ {ports} }} drop\n"
            if self.split:
                rules += "  ip protocol vrrp drop\n"
            rules += " }\n}\n"
        self.bridge.run("nft", "-f", "-", input=rules)

    def silence(self, fw):
        """The cables of fw stay up and carry nothing."""
        self.silent |= {f"lan-{fw.name}", f"wan-{fw.name}"}
        self._cut()

    def loud(self, fw):
        self.silent -= {f"lan-{fw.name}", f"wan-{fw.name}"}
        self._cut()

    def split_vrrp(self):
        """The nodes do not hear of each other by VRRP."""
        self.split = True
        self._cut()

    def heal_vrrp(self):
        self.split = False
        self._cut()

    def cut_sync(self):
        for fw in (self.fw1, self.fw2):
            lose(fw, 100)

    def heal_sync(self):
        for fw in (self.fw1, self.fw2):
            lose(fw, 0)

    # -- who is who -----------------------------------------------------------------

    def master(self):
        """The one node that is MASTER on both sides while the other is not and has no address, or None."""
        for fw in (self.fw1, self.fw2):
            other = fw.peer
            if fw.is_vrrp("MASTER") and "MASTER" not in other.vrrp().values() and \
               fw.has_addresses() == 4 and other.has_addresses() == 0:
                return fw
        return None

    def wait_master(self, fw=None, timeout=30):
        """Until one node is the MASTER (`fw`, if given); that node."""
        def found():
            now = self.master()
            return now if now and fw in (None, now) else None
        return wait_for(found, timeout, lambda: f"one MASTER{f', {fw.name}' if fw else ''}; "
                        f"keepalived is {self.roles(daemons=False)}", 0.05)

    def reaches(self, fw):
        """True if client and server send what goes to the virtual addresses to fw."""
        for host, side, addresses in ((self.client, "lan0", (LAN_VIP, LAN_VIP6)),
                                      (self.server, "wan0", (WAN_VIP, WAN_VIP6))):
            mac = json.loads(fw.run("ip", "-j", "link", "show", side).stdout)[0]["address"]
            known = {n["dst"]: n.get("lladdr") for n in
                     json.loads(host.run("ip", "-j", "neigh", "show", "dev", side).stdout)}
            if any(known.get(address, mac) != mac for address in addresses):
                return False
        return True

    def wait_path(self, fw, timeout=30):
        """Until client and server have heard that the addresses are there."""
        if not self.vmac:
            wait_for(lambda: self.reaches(fw), timeout, f"traffic to go to {fw.name}", 0.1)

    def wait_role(self, fw, role, timeout=30):
        wait_for(lambda: (fw.status() or {}).get("role") == role, timeout,
                 lambda: f"{fw.name} to be {role}: {self.roles()}", 0.05)

    def wait_settled(self, timeout=60):
        """Until one node is MASTER and active, and the other, if its daemon runs, standby, equal and ready."""
        def settled():
            fw = self.master()
            if fw is None or (fw.status() or {}).get("role") != "active":
                return None
            other = fw.peer
            if other.daemon is None:
                return fw
            good = (other.status() or {}).get("role") == "standby" and other.ready() and other.in_sync()
            return fw if good and fw.ready() else None
        return wait_for(settled, timeout, lambda: f"the pair to settle: {self.roles()}", 0.1)

    def roles(self, daemons=True):
        found = {}
        for fw in (self.fw1, self.fw2):
            states = set(fw.vrrp().values())
            found[fw.name] = "/".join(sorted(states)) or "-"
            if daemons:
                status = fw.status() if fw.daemon else None
                found[fw.name] += f" {status['role']}" if status else " -"
                if status and not status["ready"]["ok"]:
                    found[fw.name] += f", not ready: {status['ready']['reason']}"
        return found

    def traffic(self, **options):
        return Live(self, **options)

    def hold(self, seconds):
        """Leave things as they are for so long: the duration of an event, not a wait for something."""
        time.sleep(seconds)


# -- traffic ---------------------------------------------------------------------------

class Live(Traffic):
    """Traffic of every kind at a gentle pace, and connections opened all the time.

    connections: TCP at the start, a quarter of them idle; opened: so many more each second;
    lifetime: of those in seconds, 0: until the end.
    """

    def __init__(self, lab, connections=160, opened=10, lifetime=0, udp=20, ping=4, rate=3000, **more):
        options = [f"--idle={connections // 8}", "--idle-interval=6000", "--interval=150",
                   f"--open={max(1, opened // 2)}" if opened else "--open=0",
                   f"--lifetime={int(lifetime * 1000)}", "--packet-interval=200", "--packet-size=80"]
        more.setdefault("grace", 6)
        super().__init__(lab, connections=connections * 3 / 4, udp=udp, ping=ping, rate=rate, shape=0,
                         options=options, **more)

    def sums(self, *keys):
        """Both sides' status added up; None before both have told."""
        status = self.status()
        if len(status) < len(self.SIDES):
            return None
        return tuple(sum(s[key] for s in status.values()) for key in keys)

    def opened(self):
        return (self.sums("connections") or (0,))[0]

    def wait_opened(self, more, timeout=30):
        """Until so many further connections were opened, and every one has carried data."""
        wanted = self.opened() + more
        wait_for(lambda: self.opened() >= wanted, timeout, f"{more} more connections", 0.1)

    def mark(self):
        """From now on every connection is to show that it lives."""
        self.marks += 1
        for process in self.clients.values():
            process.send_signal(signal.SIGUSR1)
        wait_for(lambda: all(s["marks"] == self.marks for s in self.status().values()), 10,
                 "traffic to take note")

    def wait_alive(self, patience=6, timeout=25):
        """Mark, and wait until all have moved, or no more come within `patience`: (pending, failed)."""
        self.mark()
        deadline = time.monotonic() + timeout
        least, since = None, time.monotonic()
        while True:
            if not self.running():
                raise LabError("the traffic program ended early")
            pending, failed = self.sums("pending", "failed")
            if pending == 0:
                return 0, failed
            if least is None or pending < least:
                least, since = pending, time.monotonic()
            if time.monotonic() > min(deadline, since + patience):
                return pending, failed
            time.sleep(0.1)


def live_connections(lab):
    """The connections that an end still has, as the client of each sees them: keys of tcp_table()."""
    found = set()
    for host in (lab.client, lab.server):
        for line in host.run("ss", "-Htn", "state", "established").stdout.splitlines():
            (src, sport), (dst, dport) = (e.rsplit(":", 1) for e in line.split()[2:4])
            if int(dport) in PORTS:
                found.add((src.strip("[]"), int(sport), dst.strip("[]"), int(dport)))
    return found


def keep_state(lab):
    """What the kernels know of connections, for whoever has to find out why some of them stall."""
    lab.keep = True
    for fw in (lab.fw1, lab.fw2):
        listing = "".join(fw.run("conntrack", "-L", "-p", "tcp", "-f", family, "-o", "id,extended",
                                 check=False).stdout for family in ("ipv4", "ipv6"))
        (lab.run_dir / f"stalled-{fw.name}.conntrack").write_text(listing)
        (lab.run_dir / f"stalled-{fw.name}.counters").write_text(
            fw.run("nft", "list", "counters", check=False).stdout)
    for host in (lab.client, lab.server):
        (lab.run_dir / f"stalled-{host.name}.sockets").write_text(
            host.run("ss", "-Hntio", check=False).stdout)


def established(fw):
    return {key for key, state in fw.tcp_table().items() if state == "ESTABLISHED" and key[3] in PORTS}


def unknowable(record, unseen):
    """True if the connection began when its node could not tell anybody of it before it died."""
    established = record["running"]
    return any(record["opened"] <= end and (established is None or established >= begin)
               for begin, end in unseen)


def _phases(records, began, ended):
    """Of the connections opened before, during and after the event: how many, lost, reset."""
    phases = {name: {"connections": 0, "lost": 0, "reset": 0} for name in ("before", "during", "after")}
    for r in records:
        name = "before" if r["opened"] < began else "during" if r["opened"] < ended else "after"
        phases[name]["connections"] += 1
        if r["failure"] in ("reset", "closed"):
            phases[name]["reset"] += 1
        elif r["failure"] != "none":
            phases[name]["lost"] += 1
    return phases


def _dead_left(lab, seconds):
    """Established entries without a connection on each node, after up to so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        live = live_connections(lab)
        dead = {fw.name: len(established(fw) - live) for fw in (lab.fw1, lab.fw2) if fw.pids()}
        if not any(dead.values()) or time.monotonic() > deadline:
            return dead
        time.sleep(0.2)


def measure(lab, name, event, traffic=None, dead_after_s=0, settle_s=60, after=20):
    """Run event() under traffic and count what it cost; a dictionary, printed as one line."""
    traffic = traffic or Live(lab)
    traffic.start()
    traffic.wait_opened(20)
    if lab.fw1.daemon and lab.fw2.daemon:
        lab.wait_settled()
    began = time.monotonic()
    event()
    try:
        lab.wait_path(lab.wait_settled(settle_s))
        trouble = None
    except LabError as error:
        trouble = str(error)
    ended = time.monotonic()
    if after:
        traffic.wait_opened(after)
    pending, _failed = traffic.wait_alive()
    if pending:
        keep_state(lab)
    active = lab.master()
    missing = live_connections(lab) - set(active.tcp_table()) if active else ()
    reports = traffic.finish()
    ended_records = traffic.records()
    excused = [r for r in ended_records if r["failure"] != "none" and unknowable(r, lab.unseen)]
    records = [r for r in ended_records if r not in excused]
    ports = {r["port"] for r in excused}
    missing = [key for key in missing if key[1] not in ports]
    report = {
        "event": name, "mode": lab.mode, "seconds": round(ended - began, 1),
        "connections": len(records), "unknowable": len(excused),
        "lost": sum(r["failure"] not in ("none", "reset", "closed") for r in records),
        "reset": sum(r["failure"] in ("reset", "closed") for r in records),
        "corrupt": sum(r["total"]["corrupt_bytes"] for r in reports.values()),
        "udp_lost": sum(r["kinds"][kind]["lost"] for r in reports.values()
                        for kind in ("udp", "ping") if kind in r["kinds"]),
        "longest_pause_ms": max(r["pause_ms"] for r in records),
        "packets_lost": sum(r["total"]["packets_lost"] for r in reports.values()),
        "stalled": pending, "live_missing": len(missing), "phases": _phases(records, began, ended),
        "roles": lab.roles(), "trouble": trouble, "dead": _dead_left(lab, dead_after_s),
    }
    report["ok"] = not (report["lost"] or report["reset"] or report["corrupt"] or report["udp_lost"] or
                        trouble or active is None)
    if not report["ok"]:
        lab.keep = True
        (lab.run_dir / "report.json").write_text(json.dumps(report, indent=2))
    say(report)
    return report


HEAD = f"{'event':<34} {'mode':<8} {'conns':>5} {'lost':>5} {'reset':>5} {'udp':>4} {'pause':>7} " \
       f"{'packets':>7} {'missing':>7} {'dead':>9}  at the end"


def line(report):
    """A row under HEAD."""
    dead = "/".join(str(n) for n in report["dead"].values())
    roles = ", ".join(f"{name} {what}" for name, what in report["roles"].items())
    return f"{report['event']:<34} {report['mode']:<8} {report['connections']:>5} {report['lost']:>5} " \
           f"{report['reset']:>5} {report['udp_lost']:>4} {report['longest_pause_ms'] / 1000:>6.1f}s " \
           f"{report['packets_lost']:>7} {report['live_missing']:>7} {dead:>9}  {roles}" \
           f"{'' if report['ok'] else '  FAILED'}"


def say(report):
    print(line(report), flush=True)
    if not report["ok"]:
        for phase, n in report["phases"].items():
            if n["lost"] or n["reset"]:
                print(f"    opened {phase}: {n['lost']} lost and {n['reset']} reset of {n['connections']}")
        if report["trouble"]:
            print(f"    {report['trouble']}", flush=True)
