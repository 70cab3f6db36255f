# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens after something went wrong, how late the standby is, and what
it costs to know that it is equal: rows of bench.py.

Each function takes the Bench, the name of the measurement and the class of
the competitor.  README.md says what the figures mean.
"""

import json
import signal
import subprocess
import time

from benchlab import BenchError

RECOVERY = ["cut", "overrun", "restart"]
TIMING = ["lag", "overhead"]
GIVE_UP_S = 30      # not equal by then: not in this run


def rows(plain):
    """Rows of the metric table; plain is the kind of target without a rival."""
    table = []
    for name, text, limit in (
            ("cut", "link cut 10 s, changes: equal after", 1),
            ("overrun", "overrun: equal after, less one dump", 1),
            ("restart", "active restarted, 1M: equal after", 5)):
        table += [
            (name + ".equal_s", text, "s", plain, limit),
            (name + ".missing", name + ": missing on the standby", "flows",
             plain, 0),
            (name + ".extra", name + ": extra on the standby", "flows",
             plain, 0)]
    table += [
        ("overrun.dump_s", "one dump of that table", "s", None, 0),
        ("restart.lost", "flows given up before that", "flows", plain, 0),
        ("lag.median_ms", "lag at 50k/s, median", "ms", None, 0),
        ("lag.p99_ms", "lag at 50k/s, 99th percentile", "ms", plain, 5),
        ("lag.max_ms", "lag at 50k/s, greatest", "ms", None, 0),
        ("lag.generator", "share of the generator in two CPUs", "%", None, 0),
        ("lag.active", "share of the active in two CPUs", "%", None, 0),
        ("lag.standby", "share of the standby in two CPUs", "%", None, 0),
        ("overhead.digest_ns", "a digest", "ns", None, 0),
        ("overhead.version_ns", "a version", "ns", None, 0),
        ("overhead.ack_ns", "an acknowledgement, sent and read", "ns", None,
         0),
        ("overhead.acks", "acknowledgements per event", "", None, 0),
        ("overhead.share", "digests, versions, acks in CPU per event", "%",
         plain, 15)]
    return table


def wait_equal(bench, standby, since, flows):
    """Seconds from since until the standby is known to be equal; None."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        if hasattr(standby, "proof_age"):
            asked = time.monotonic()
            age = standby.proof_age()
            if age is not None and age < asked - since:
                return time.monotonic() - since
        elif standby.progress()[0] == flows:
            return time.monotonic() - since
        time.sleep(0.02)
    bench.res.note("%s is not equal after %d s" % (standby.name, GIVE_UP_S))
    return None


def compare(bench, name, standby):
    """Commit, and both kernels' tables, entry for entry."""
    standby.commit()
    _, missing, extra, sample = bench.lab.difference(standby.fields)
    bench.res.add(name + ".missing", standby.name, missing)
    bench.res.add(name + ".extra", standby.name, extra)
    if missing or extra:
        bench.res.note("%s %s: %d missing, %d extra: %s" % (
            standby.name, name, missing, extra, "; ".join(sample)))


def settled(bench, cls, flows):
    active, standby = bench.pair(cls, flows * 2)
    bench.lab.gen("a", "create", "-n", flows)
    if wait_equal(bench, standby, time.monotonic(), flows) is None:
        raise BenchError("the pair does not become equal")
    return active, standby


def cut(bench, name, cls):
    """No link for 10 s, while 250k changes happen; then there is one again."""
    n = 20000 if bench.args.quick else 50000
    _, standby = settled(bench, cls, 2 * n)
    bench.lab.cut(True)
    began = time.monotonic()
    bench.lab.gen("a", "delete", "-n", n, "-r", n // 2)
    bench.lab.gen("a", "create", "-o", 2 * n, "-n", 2 * n, "-r", n // 2)
    bench.lab.gen("a", "update", "-o", n, "-n", 2 * n, "-m", 5, "-r", n)
    time.sleep(max(0, began + 10 - time.monotonic()))
    healed = time.monotonic()
    bench.lab.cut(False)
    seconds = wait_equal(bench, standby, healed, 3 * n)
    if seconds is not None:
        bench.res.add(name + ".equal_s", cls.name, seconds)
    compare(bench, name, standby)


class SmallBuffer:
    """The active with a buffer for events that a burst overruns."""

    def __init__(self, cls):
        self.cls = cls

    def __enter__(self):
        self.cls.event_buffer, self.before = 16 << 20, self.cls.event_buffer

    def __exit__(self, *_error):
        self.cls.event_buffer = self.before


def overrun(bench, name, cls):
    """The reader stands still while 350k changes happen."""
    n = 20000 if bench.args.quick else 70000
    with SmallBuffer(cls):
        active, standby = settled(bench, cls, 3 * n)
    active.signal(signal.SIGSTOP)
    try:
        bench.lab.gen("a", "delete", "-n", n)
        bench.lab.gen("a", "create", "-o", 3 * n, "-n", 2 * n)
        bench.lab.gen("a", "update", "-o", n, "-n", 2 * n, "-m", 5)
        begin = time.monotonic()
        bench.lab.gen("a", "count")
        dump = time.monotonic() - begin
    finally:
        goes_on = time.monotonic()
        active.signal(signal.SIGCONT)
    seconds = wait_equal(bench, standby, goes_on, 4 * n)
    bench.res.add(name + ".dump_s", cls.name, dump)
    if seconds is not None:
        bench.res.add(name + ".equal_s", cls.name, max(0, seconds - dump))
    compare(bench, name, standby)


def restart(bench, name, cls):
    """The active daemon is killed and started again; its kernel goes on."""
    n = 100000 if bench.args.quick else 1000000
    active, standby = settled(bench, cls, n)
    active.kill()
    ended = n // 50
    bench.lab.gen("a", "delete", "-n", ended)
    least = standby.progress()[0]
    begin = time.monotonic()
    active.start()
    deadline = begin + GIVE_UP_S
    while True:
        held, sure = standby.progress()
        asked = time.monotonic()
        if sure and held == n - ended:
            bench.res.add(name + ".equal_s", cls.name, asked - begin)
            break
        least = min(least, held)
        if asked > deadline:
            bench.res.note("%s is not equal after %d s" % (
                cls.name, GIVE_UP_S))
            break
        time.sleep(0.02)
    bench.res.add(name + ".lost", cls.name, max(0, n - ended - least))
    compare(bench, name, standby)


def lag(bench, name, cls):
    """50k changes a second, by their age when they reach the standby."""
    if not hasattr(cls, "proof_age"):
        return              # nobody else knows
    rate, seconds = 50000, 5 if bench.args.quick else 20
    flows = 100000
    active, standby = settled(bench, cls, flows)
    gen = bench.lab.gen_start("a", "update", "-n", flows, "-m", 1, "-r", rate,
                              "-R", rate * seconds // flows)
    begin = time.monotonic()
    cpu = active.cpu(), standby.cpu()
    out, _ = gen.communicate(timeout=seconds * 4 + 60)
    wall = time.monotonic() - begin
    if gen.returncode != 0:
        raise BenchError("the generator failed")
    peer = standby.status()["peers"][0]
    for key, field in (("median_ms", "lag_ms"), ("p99_ms", "lag_p99_ms"),
                       ("max_ms", "lag_max_ms")):
        bench.res.add("%s.%s" % (name, key), cls.name, peer[field])
    generator = json.loads(out)
    shares = {"active": active.cpu() - cpu[0],
              "standby": standby.cpu() - cpu[1],
              "generator": generator["cpu_us_per_entry"] * generator["entries"] / 1e6}
    for who, used in shares.items():
        bench.res.add("%s.%s" % (name, who), cls.name, 50 * used / wall)


def overhead(bench, name, cls):
    """Digests, versions and acknowledgements in the CPU time of an event."""
    if not hasattr(cls, "proof_age"):
        return
    rate, seconds = 50000, 4 if bench.args.quick else 10
    flows = rate * seconds
    active, standby = bench.pair(cls, flows)

    def packets():
        stats = json.loads(subprocess.run(
            standby.ctsync("stats", "--json"), check=True, text=True,
            stdout=subprocess.PIPE).stdout)
        return stats["links"]["ha0"]["tx_packets_total"]
    before = active.cpu() + standby.cpu(), packets()
    bench.lab.gen("a", "create", "-n", flows, "-r", rate)
    if wait_equal(bench, standby, time.monotonic(), flows) is None:
        raise BenchError("the standby does not become equal")
    cpu = (active.cpu() + standby.cpu() - before[0]) * 1e9 / flows
    acks = (packets() - before[1]) / flows
    price = json.loads(subprocess.run(
        [bench.args.bin + "/ctlab-corebench"], check=True, text=True,
        stdout=subprocess.PIPE).stdout)
    for key, value in price.items():
        bench.res.add("%s.%s" % (name, key), cls.name, value)
    bench.res.add(name + ".acks", cls.name, acks)
    bench.res.add(name + ".share", cls.name, 100 * (
        2 * price["digest_ns"] + price["version_ns"] +
        acks * price["ack_ns"]) / cpu)


FUNCTIONS = {"cut": cut, "overrun": overrun, "restart": restart, "lag": lag,
             "overhead": overhead}
