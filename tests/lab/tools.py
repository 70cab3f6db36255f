# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab tests share: flows out of nothing, tables to compare, loss, packets by hand."""

import contextlib
import json
import re
import socket
import struct
import threading
import time

from lab import LabError, in_netns, wait_for

SRC_NAT = 0x10
BE_LIBERAL = 0x08
PORT = 3790

# Original sources of what ctlab-ctgen makes (ADDR_CLIENTS and ADDR_NAT there).
GENERATED = re.compile(r" orig=(100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|2001:db8::6[4-7][0-9a-f]{2}:)")


# -- flows ------------------------------------------------------------------

def ctgen(fw, command, *options, check=True):
    """Run ctlab-ctgen in the firewall's namespace; what it printed, as a dictionary."""
    done = fw.run(fw.lab.bin("ctlab-ctgen"), command, *options, check=check, timeout=120)
    return json.loads(done.stdout)


def kernel_table(fw):
    """The generated flows in the kernel of fw: {tuples: "status=... mark=... state=... zone=..."}."""
    lines = fw.run(fw.lab.bin("ctlab-ctgen"), "list", timeout=120).stdout.splitlines()
    return dict(line.split(" status=") for line in lines if GENERATED.search(line))


def status_bits(value):
    """CTA_STATUS of a value of kernel_table()."""
    return int(value.split()[0], 16)


def differences(ours, theirs):
    """Of two tables: what only one has, and what both have differently; empty if they are equal."""
    found = [f"only in the first: {k}" for k in ours.keys() - theirs.keys()]
    found += [f"only in the second: {k}" for k in theirs.keys() - ours.keys()]
    found += [f"{k}: {ours[k]} / {theirs[k]}" for k in ours.keys() & theirs.keys()
              if ours[k] != theirs[k]]
    return found[:10]


def listed(fw, table, *options):
    """`ctsync show TABLE`: lines without the timeout, which runs."""
    lines = fw.ctsync("show", table, *options, timeout=120).stdout.splitlines()
    return {re.sub(r"^(ipv[46] +\d+ \S+ +\d+) \d+ ", r"\1 ", line) for line in lines}


def count(fw, table, *options):
    return int(fw.ctsync("count", table, *options).stdout)


def stats(fw):
    return json.loads(fw.ctsync("--json", "stats").stdout)


def peer(fw):
    """What the daemon of fw says about its peer."""
    return next(p for p in fw.status()["peers"] if p["node"] == fw.peer.name)


def wait_equal(holder, timeout=30):
    """Until `holder` has all flows of its peer: by its own digest, and flow for flow."""
    source = holder.peer

    def equal():
        return holder.in_sync() and listed(holder, "remote") == listed(source, "local")
    wait_for(equal, timeout, f"{holder.name} to hold what {source.name} has", 0.1)


def wait_holds(holder, flows, timeout=30):
    wait_for(lambda: count(holder, "remote") >= flows and holder.in_sync(), timeout,
             f"{holder.name} to hold {flows} flows of its peer", 0.05)


def proven(holder, since, of=()):
    """True if `holder` has all flows of its peer, by a proof that is newer than `since` (monotonic).

    of: names of several peers, where there are more than one.
    """
    asked = time.monotonic()
    told = {p["node"]: p for p in holder.status()["peers"]}
    # The daemon cuts fractions of a millisecond off.
    return all(told[name]["in_sync"] and asked - (told[name]["verified_ms"] + 1) / 1000 > since
               for name in of or [holder.peer.name])


def wait_proof(holder, timeout=60, of=()):
    """Until `holder` has proved that it has what its peers have now, at the time of this call."""
    now = time.monotonic()
    wait_for(lambda: proven(holder, now, of), timeout,
             f"{holder.name} to be equal, by a new proof, to {' '.join(of) or holder.peer.name}", 0.02)


def same_kernels(holder, proto=""):
    """What the proof says is so: `holder` writes its copy to its kernel, and the tables are equal.

    Nothing may change meanwhile.  Between the proof and the comparison nothing is waited for.
    proto: look at flows of this number only; the active node does not take what a standby has.
    """
    wait_proof(holder)
    takeover(holder, "commit")
    theirs, ours = ({k: v for k, v in kernel_table(fw).items() if f"proto={proto}" in k}
                    for fw in (holder.peer, holder))
    found = differences(theirs, ours)
    if found:
        raise LabError("the kernels are different:\n" + "\n".join(found))
    return ours


def takeover(fw, command="takeover", check=True):
    """Commit or take over; the daemon's answer and the exit code in it."""
    done = fw.ctsync("--json", command, check=False, timeout=120)
    answer = json.loads(done.stdout)
    if check and done.returncode != 0:
        raise LabError(f"{fw.name}: {command}: exit {done.returncode}: {done.stdout}")
    answer["code"] = done.returncode
    return answer


# -- configuration ------------------------------------------------------------

def configure(fw, takeover_keys="", control_keys="", **config):
    """Write the configuration with more keys in two groups that it has anyway."""
    path = fw.write_config(**config)
    text = path.read_text()
    text = text.replace("takeover = {", "takeover = { " + takeover_keys)
    text = text.replace("control = {", "control = { " + control_keys)
    path.write_text(text)
    return path


def log(fw):
    path = fw.lab.run_dir / f"{fw.name}-ctsyncd.log"
    return path.read_text(errors="replace") if path.exists() else ""


def wait_log(fw, text, timeout=10):
    wait_for(lambda: text in log(fw), timeout, f"{fw.name} to log {text!r}; it logged\n{log(fw)}")


# -- the link -------------------------------------------------------------------

RELAY_MAC = "02:00:00:00:00:77"


def lose(fw, percent, device="sync0"):
    """Drop that share of what arrives over the link; 0 ends it.  A relay's frames pass."""
    rules = "add table inet loss\nflush table inet loss\n"
    rules += "add chain inet loss pre { type filter hook prerouting priority -400; policy accept; }\n"
    if percent > 0:
        chance = f"numgen random mod 100 < {percent} " if percent < 100 else ""
        rules += f'add rule inet loss pre iifname "{device}" udp dport {PORT} ' \
                 f'ether saddr != {RELAY_MAC} {chance}counter drop\n'
    fw.run("nft", "-f", "-", input=rules)


@contextlib.contextmanager
def losing(fws, percent, device="sync0"):
    for fw in fws:
        lose(fw, percent, device)
    try:
        yield
    finally:
        for fw in fws:
            lose(fw, 0, device)


def narrow(fw, rate):
    """Limit what the firewall can send over the link."""
    fw.run("tc", "qdisc", "replace", "dev", "sync0", "root", "tbf", "rate", rate, "burst", "16kb",
           "limit", "256kb")


def widen(fw):
    fw.run("tc", "qdisc", "del", "dev", "sync0", "root")


# -- work beside the test ----------------------------------------------------------

class Background:
    """Run function(stop_event) beside the test; join() gives its result or raises its error."""

    def __init__(self, function):
        self.stop = threading.Event()
        self.result = self.error = None
        self.thread = threading.Thread(target=self._body, args=(function,), daemon=True)
        self.thread.start()

    def _body(self, function):
        try:
            self.result = function(self.stop)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def running(self):
        return self.thread.is_alive()

    def join(self, timeout=120):
        self.stop.set()
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise LabError("the work in the background does not end")
        if self.error is not None:
            raise self.error
        return self.result


# -- ctnetlink by hand: what conntrack(8) does not show -----------------------------

NFNL_GET_CT = (1 << 8) | 1
CTA_PROTOINFO, CTA_PROTOINFO_TCP = 4, 1
CTA_TCP_FLAGS = (4, 5)          # original, reply


def _attributes(data):
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3fff, data[offset + 4:offset + length]
        offset += (length + 3) & ~3


def _tcp_flags(message):
    """(original, reply) of a ctnetlink message, None if it is not TCP."""
    info = dict(_attributes(message)).get(CTA_PROTOINFO)
    tcp = dict(_attributes(info)).get(CTA_PROTOINFO_TCP) if info else None
    if tcp is None:
        return None
    attributes = dict(_attributes(tcp))
    return tuple(attributes[kind][0] if kind in attributes else 0 for kind in CTA_TCP_FLAGS)


def tcp_flags(fw):
    """The window tracking flags of every TCP entry in the kernel of fw: [(original, reply), ...]."""
    def dump():
        found = []
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
            sock.settimeout(30)
            sock.bind((0, 0))
            sock.send(struct.pack("=IHHII", 20, NFNL_GET_CT, 0x301, 1, 0) + bytes(4))
            while True:
                data = sock.recv(1 << 18)
                offset = 0
                while offset < len(data):
                    length, kind = struct.unpack_from("=IH", data, offset)
                    if kind == 3:       # NLMSG_DONE
                        return found
                    if kind == 2:
                        raise LabError("the kernel refused to list its table")
                    flags = _tcp_flags(data[offset + 20:offset + length])
                    if flags is not None:
                        found.append(flags)
                    offset += (length + 3) & ~3
    return in_netns(fw.ns, dump)


def liberal(fw):
    """How many TCP entries of the kernel are tracked liberally, in either direction."""
    return sum(1 for a, b in tcp_flags(fw) if (a | b) & BE_LIBERAL)


# -- control socket by hand -----------------------------------------------------------

REQUEST, FLOWS, TEXT, PROGRESS, RESULT = 1, 2, 3, 4, 5


class Control:
    """A client of the control protocol that may misbehave."""

    def __init__(self, fw, timeout=15):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(fw.socket))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.sock.close()

    def send(self, request):
        body = json.dumps({"proto": 1, **request}).encode()
        self.sock.sendall(struct.pack("!IB", len(body), REQUEST) + body)

    def _take(self, size):
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def frame(self):
        """(type, payload); EOFError when the daemon has hung up."""
        length, kind = struct.unpack("!IB", self._take(5))
        return kind, self._take(length)

    def result(self):
        """The next RESULT, whatever comes before it."""
        while True:
            kind, payload = self.frame()
            if kind == RESULT:
                return json.loads(payload)

    def dropped(self):
        """Read on until the daemon hangs up; True if it did within the timeout."""
        try:
            while self.sock.recv(65536):
                pass
        except socket.timeout:
            return False
        except ConnectionResetError:
            pass
        return True
