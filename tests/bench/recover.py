# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens after something went wrong, how late the standby is, and what
it costs to know that it is equal: rows of bench.py.

Each function takes the Bench, the name of the measurement and the class of
the competitor.  README.md says what the figures mean.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import time

import sampling
from benchlab import BenchError, wait_idle

RECOVERY = ["cut", "overrun", "restart"]
GIVE_UP_S = 30      # not equal by then: not in this run


def rows(plain):
    """Rows of the metric table; plain is the kind of target without a rival."""
    table = []
    for name, text, limit in (
            ("cut", "cut of 10 s: equal after", 1),
            ("overrun", "overrun: equal after, less one dump", 1),
            ("restart", "active restarted: equal after", 5)):
        table += [
            (name + ".equal_s", text, "s", plain, limit),
            (name + ".missing", name + ": missing on the standby", "flows",
             plain, 0),
            (name + ".extra", name + ": extra on the standby", "flows",
             plain, 0)]
        if name == "cut":
            table.append(("cut.first_s", "cut: healed, first datagram after",
                          "s", None, 0))
        elif name == "overrun":
            table.append(("overrun.dump_s", "overrun: one dump of that table",
                          "s", None, 0))
        else:
            table.append(("restart.lost", "restart: given up before equal",
                          "flows", plain, 0))
    table += [
        ("lag.median_ms", "lag at 50k/s, median", "ms", None, 0),
        ("lag.p99_ms", "lag at 50k/s, 99th percentile", "ms", plain, 5),
        ("lag.max_ms", "lag at 50k/s, greatest", "ms", None, 0),
        ("lag.probe_ms", "lag at 50k/s by probes, median", "ms", None, 0),
        ("lag.probe_max_ms", "lag at 50k/s by probes, greatest", "ms", None,
         0),
        ("lag.late_ms", "lag: idle machine, sleep late by, 99th", "ms", None,
         0),
        ("lag.rate", "lag: changes per second", "1/s", None, 0),
        ("lag.generator", "lag: generator, of two CPUs", "%", None, 0),
        ("lag.active", "lag: active, of two CPUs", "%", None, 0),
        ("lag.standby", "lag: standby, of two CPUs", "%", None, 0)]
    for who in ("active", "standby", "both"):
        for what in (sampling.DIGESTS, sampling.ACKS, sampling.VERSIONS):
            table.append(("overhead.%s.%s" % (who, what), "CPU of %s: %s" % (
                who, what), "%", None, 0))
    table += [
        ("overhead.share", "CPU per event: these three together", "%",
         plain, 15),
        ("overhead.samples", "CPU per event: samples", "", None, 0),
        ("overhead.digest_ns", "a digest by itself", "ns", None, 0),
        ("overhead.version_ns", "a version by itself", "ns", None, 0),
        ("overhead.ack_ns", "an acknowledgement by itself", "ns", None, 0),
        ("overhead.acks", "signals of the standby per 1000 events", "", None,
         0),
        ("overhead.pieces", "CPU per event: sum of such pieces", "%", None,
         0)]
    return table


def wait_equal(bench, standby, since, flows):
    """Seconds from since until the standby is known to be equal; None."""
    deadline = time.monotonic() + GIVE_UP_S
    held = None
    while time.monotonic() < deadline:
        if hasattr(standby, "proof_age"):
            asked = time.monotonic()
            age = standby.proof_age()
            if age is not None and age < asked - since:
                return time.monotonic() - since
        else:
            held = standby.progress()[0]
            if held == flows:
                return time.monotonic() - since
        time.sleep(0.005)
    bench.res.note("%s is not equal after %d s%s" % (
        standby.name, GIVE_UP_S,
        "" if held is None else ": %d flows of %d" % (held, flows)))
    return None


def compare(bench, name, standby, seconds):
    """Commit, and both kernels' tables, entry for entry.

    Without a difference the standby was equal after that many seconds; None:
    it did not look like that.
    """
    standby.commit()
    _, missing, extra, sample = bench.lab.difference(standby.fields, limit=1)
    bench.res.add(name + ".missing", standby.name, missing)
    bench.res.add(name + ".extra", standby.name, extra)
    if missing or extra:
        bench.res.note("%s %s: %d missing, %d extra: %s" % (
            standby.name, name, missing, extra, "; ".join(sample)))
    elif seconds is not None:
        bench.res.add(name + ".equal_s", standby.name, seconds)


def settled(bench, cls, flows):
    active, standby = bench.pair(cls, flows * 2)
    bench.lab.gen("a", "create", "-n", flows)
    if wait_equal(bench, standby, time.monotonic(), flows) is None:
        raise BenchError("the pair does not become equal")
    return active, standby


# Recovery.

def first_datagram(standby, before):
    """Wait for something that comes over the link; its time at the latest."""
    deadline = time.monotonic() + GIVE_UP_S
    while standby.received() == before:
        if time.monotonic() > deadline:
            raise BenchError("nothing comes over the healed link")
        time.sleep(0.001)
    return time.monotonic()


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
    can_tell = hasattr(standby, "received")
    before = standby.received() if can_tell else None
    since = time.monotonic()
    bench.lab.cut(False)
    if can_tell:
        healed, since = since, first_datagram(standby, before)
        bench.res.add(name + ".first_s", cls.name, since - healed)
    compare(bench, name, standby, wait_equal(bench, standby, since, 3 * n))


@contextlib.contextmanager
def small_buffer(cls):
    """A buffer for events that a burst overruns."""
    before, cls.event_buffer = cls.event_buffer, 16 << 20
    try:
        yield
    finally:
        cls.event_buffer = before


def overrun(bench, name, cls):
    """The reader stands still while 350k changes happen."""
    n = 20000 if bench.args.quick else 70000
    with small_buffer(cls):
        active, standby = settled(bench, cls, 3 * n)
    before = active.overruns() if hasattr(active, "overruns") else None
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
    if before is not None and active.overruns() == before:
        raise BenchError("the buffer for events did not overrun")
    bench.res.add(name + ".dump_s", cls.name, dump)
    compare(bench, name, standby,
            None if seconds is None else max(0, seconds - dump))


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
    seconds = None
    while seconds is None and time.monotonic() < begin + GIVE_UP_S:
        held, sure = standby.progress()
        least = min(least, held)
        if sure and held == n - ended:
            seconds = time.monotonic() - begin
        time.sleep(0.005)
    if seconds is None:
        bench.res.note("%s restart: not equal after %d s, %d flows of %d" % (
            cls.name, GIVE_UP_S, standby.progress()[0], n - ended))
    bench.res.add(name + ".lost", cls.name, max(0, n - ended - least))
    compare(bench, name, standby, seconds)


# Lag.

@contextlib.contextmanager
def two_cpus():
    """What starts here runs on two CPUs, as many as the target speaks of."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def load(bench, flows, rate, seconds, mark):
    """Start a generator that changes each of the flows again and again."""
    return bench.lab.gen_start(
        "a", "update", "-n", flows, "-m", mark, "-r", rate,
        "-R", max(1, rate * seconds // flows))


def ended(gen, seconds):
    """What a generator has to say."""
    try:
        out, _ = gen.communicate(timeout=seconds * 4 + 60)
    finally:
        if gen.poll() is None:
            gen.kill()
            gen.wait()
    if gen.returncode != 0:
        raise BenchError("the generator failed")
    return json.loads(out)


def probe(bench, standby, number, expected):
    """Seconds from before one new flow until the standby is seen to hold it.

    Both ends are read from the same clock, and nothing that the daemons say
    about time is used.
    """
    gen = bench.lab.gen_start("a", "create", "-n", 1, "-o", number)
    deadline = time.monotonic() + GIVE_UP_S
    while standby.progress()[0] < expected:
        if time.monotonic() > deadline:
            ended(gen, 1)
            raise BenchError("a new flow does not come to the standby")
        time.sleep(0.0003)
    seen = time.monotonic()
    return seen - ended(gen, 1)["began_ns"] / 1e9


def oversleep():
    """How many ms too late a sleep of 1 ms ends on this machine while it is
    idle, 99th percentile: what no program can do anything about."""
    late = []
    for _ in range(2000):
        begin = time.monotonic()
        time.sleep(0.001)
        late.append((time.monotonic() - begin) * 1e3 - 1)
    return sorted(late)[len(late) * 99 // 100]


def lag(bench, name, cls):
    """50k changes a second, by their age when they reach the standby."""
    rate, seconds = 50000, 5 if bench.args.quick else 20
    flows, probes = 100000, 10 if bench.args.quick else 40

    def add(key, value):
        bench.res.add(name + "." + key, cls.name, value)
    with two_cpus():
        active, standby = settled(bench, cls, flows)
        # a new one has not seen the burst, whose lag is another matter
        bench.stop(standby)
        standby = bench.daemon(cls, "b", flows)
        if wait_equal(bench, standby, time.monotonic(), flows) is None:
            raise BenchError("the standby does not become equal")
        wait_idle(active, standby)
        add("late_ms", oversleep())
        cpu, begin = (active.cpu(), standby.cpu()), time.monotonic()
        done = ended(load(bench, flows, rate, seconds, 1), seconds)
        wall = time.monotonic() - begin
        used = {"active": active.cpu() - cpu[0],
                "standby": standby.cpu() - cpu[1],
                "generator": done["cpu_us_per_entry"] * done["entries"] / 1e6}
        for who, cpu_s in used.items():
            add(who, 50 * cpu_s / wall)
        add("rate", done["per_s"])
        if hasattr(standby, "status"):
            peer = standby.status()["peers"][0]
            for key, field in (("median_ms", "lag_ms"),
                               ("p99_ms", "lag_p99_ms"),
                               ("max_ms", "lag_max_ms")):
                add(key, peer[field])
        gen = load(bench, flows, rate, probes // 4 + 2, 1000)
        times = []
        try:
            for i in range(probes):
                times.append(probe(bench, standby, flows + i, flows + i + 1))
                time.sleep(0.2)
        finally:
            gen.terminate()
            gen.wait()
    add("probe_ms", statistics.median(times) * 1e3)
    add("probe_max_ms", max(times) * 1e3)


# The price of knowing.

def sample_shares(bench, name, active, standby, rate, seconds):
    """CPU time by purpose, while flows begin, change and end."""
    why = sampling.missing()
    if why is not None:
        bench.res.note("%s is not measured: %s" % (name, why))
        return
    n = rate * seconds
    sampler = sampling.Sampler(bench.rundir, [active.proc.pid,
                                              standby.proc.pid])
    with sampler:
        for op in (("create",), ("update", "-m", 9), ("delete",)):
            bench.lab.gen("a", *op, "-n", n, "-r", rate)
    table = sampling.count(sampler, active.command()[0], active.proc.pid)
    per = {"active": table.get(active.proc.pid, {}),
           "standby": table.get(standby.proc.pid, {})}
    per["both"] = {what: sum(per[who].get(what, 0) for who in per)
                   for what in (sampling.DIGESTS, sampling.ACKS,
                                sampling.VERSIONS, sampling.OTHER)}
    for who, row in per.items():
        for what in (sampling.DIGESTS, sampling.ACKS, sampling.VERSIONS):
            bench.res.add("%s.%s.%s" % (name, who, what), active.name,
                          100 * row.get(what, 0) / max(1, sum(row.values())))
    every = sum(per["both"].values())
    bench.res.add(name + ".samples", active.name, every)
    bench.res.add(name + ".share", active.name, 100 * (
        every - per["both"][sampling.OTHER]) / max(1, every))


def overhead(bench, name, cls):
    """Digests, versions and acknowledgements in the CPU time of an event."""
    if not hasattr(cls, "proof_age"):
        return              # nobody else has them
    rate, seconds = 50000, 3 if bench.args.quick else 10
    n = rate * seconds
    active, standby = bench.pair(cls, n)

    def packets():
        return standby.ask("stats")["links"]["ha0"]["tx_packets_total"]
    before = active.cpu() + standby.cpu(), packets()
    for op in (("create",), ("update", "-m", 8), ("delete",)):
        bench.lab.gen("a", *op, "-n", n, "-r", rate)
    wait_idle(active, standby)
    cpu_ns = (active.cpu() + standby.cpu() - before[0]) * 1e9 / (3 * n)
    acks = (packets() - before[1]) / (3 * n)
    price = json.loads(subprocess.run(
        [os.path.join(bench.args.bin, "ctlab-corebench")], check=True,
        text=True, stdout=subprocess.PIPE).stdout)
    for key, value in price.items():
        bench.res.add("%s.%s" % (name, key), cls.name, value)
    bench.res.add(name + ".acks", cls.name, acks * 1000)
    bench.res.add(name + ".pieces", cls.name, 100 * (
        2 * price["digest_ns"] + price["version_ns"] +
        acks * price["ack_ns"]) / cpu_ns)
    sample_shares(bench, name, active, standby, rate, seconds)


FUNCTIONS = {"cut": cut, "overrun": overrun, "restart": restart, "lag": lag,
             "overhead": overhead}
