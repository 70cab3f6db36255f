#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure ctsyncd beside conntrackd and beside the floor of the kernel.

Same entries, one competitor after the other in fresh namespaces, same run.
README.md says what each figure means.  Exit code: 0 if every target that
could be checked was met, 1 if one was missed or a measurement failed.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import benchlab
import recover
from benchlab import BenchError, Lab, RUNNERS, wait_idle

OURS, THEIRS, FLOOR = "ctsyncd", "conntrackd", "floor"
STALL_S = 15        # no progress for so long: it will not become complete
BULK = {"bulk100k": 100000, "bulk1m": 1000000}
STEADY = {"steady10k": 10000, "steady30k": 30000, "steady100k": 100000}
MEASUREMENTS = ["floor", *STEADY, *BULK, *recover.FUNCTIONS]
QUICK = ["floor", "steady10k", "steady100k", "bulk100k", *recover.FUNCTIONS]

# Kinds of target: at most LIMIT times conntrackd, times the floor, or plain.
VS_THEIRS, VS_FLOOR, PLAIN = "theirs", "floor", "plain"


def metric_table():
    """(id, title, unit, kind of target or None, limit) in print order."""
    rows = []
    for name in BULK:
        size = name[4:].upper().replace("K", "k")
        rows += [
            (name + ".commit", "commit of " + size, "us/flow",
             VS_FLOOR if name == "bulk1m" else None, 1.3),
            (name + ".commit_cpu", "commit of %s, CPU" % size, "us/flow",
             None, 0),
            (name + ".commit_s", "commit of %s, in all" % size, "s", None, 0),
            (name + ".active_cpu", "burst of %s: active CPU" % size,
             "us/event", VS_THEIRS, 0.5),
            (name + ".standby_cpu", "burst of %s: standby CPU" % size,
             "us/flow", VS_THEIRS, 0.5),
            (name + ".burst_s", "burst of %s: until standby has all" % size,
             "s", None, 0),
            (name + ".burst_missing", "burst of %s: not on standby" % size,
             "flows", PLAIN, 0),
            (name + ".active_rss", "memory of active, " + size, "B/flow",
             PLAIN, 200),
            (name + ".standby_rss", "memory of standby, " + size, "B/flow",
             PLAIN, 200),
            (name + ".sync_s", "full synchronisation of " + size, "s",
             None, 0),
            (name + ".sync_active_cpu", "full sync of %s: active CPU" % size,
             "us/flow", None, 0),
            (name + ".sync_standby_cpu", "full sync of %s: standby CPU" % size,
             "us/flow", VS_THEIRS, 0.5),
            (name + ".missing", "kernels after commit: missing of " + size,
             "flows", PLAIN, 0),
            (name + ".extra", "kernels after commit: extra", "flows",
             PLAIN, 0),
        ]
    for name in STEADY:
        rate = name[6:] + "/s"
        rows += [
            (name + ".new_active", "new %s: active CPU" % rate, "us/event",
             VS_THEIRS, 0.5),
            (name + ".new_standby", "new %s: standby CPU" % rate, "us/flow",
             VS_THEIRS, 0.5),
            (name + ".update_active", "update %s: active CPU" % rate,
             "us/event", VS_THEIRS, 0.5),
            (name + ".update_standby", "update %s: standby CPU" % rate,
             "us/flow", VS_THEIRS, 0.5),
            (name + ".delete_active", "delete %s: active CPU" % rate,
             "us/event", VS_THEIRS, 0.5),
            (name + ".delete_standby", "delete %s: standby CPU" % rate,
             "us/flow", VS_THEIRS, 0.5),
            (name + ".wire", "new %s: wire, both ways" % rate, "B/flow",
             PLAIN, 60),
            (name + ".wire_tx", "new %s: wire, active to standby" % rate,
             "B/flow", None, 0),
            (name + ".wire_rx", "new %s: wire, standby to active" % rate,
             "B/flow", None, 0),
            (name + ".missing", "new %s: not on standby" % rate, "flows",
             PLAIN, 0),
        ]
    rows += recover.rows(PLAIN)
    for what in ("none", "filtered", "unfiltered"):
        for op in ("create", "update", "rewrite", "delete"):
            rows.append(("floor.%s.%s" % (op, what),
                         "kernel: %s, listener %s" % (op, what), "us/entry",
                         None, 0))
    return rows


class Results:
    """All samples of a run: metric -> runner -> list of values."""

    def __init__(self):
        self.samples = {}
        self.notes = []

    def add(self, metric, runner, value):
        self.samples.setdefault(metric, {}).setdefault(runner, []).append(value)

    def note(self, text):
        self.notes.append(text)
        say("  ! " + text)

    def median(self, metric, runner):
        values = self.samples.get(metric, {}).get(runner)
        return statistics.median(values) if values else None


def say(text):
    print(text, file=sys.stderr, flush=True)


class Meter:
    """CPU of both daemons and bytes on the link between two instants."""

    def __init__(self, lab, active, standby):
        self.lab, self.active, self.standby = lab, active, standby
        self.start = self.read()

    def read(self):
        rx, tx = self.lab.ns["a"].wire()
        return (self.active.cpu(), self.standby.cpu(), tx, rx)

    def stop(self, flows):
        """Per flow: active us, standby us, bytes sent, bytes received."""
        d = [b - a for a, b in zip(self.start, self.read())]
        return (d[0] * 1e6 / flows, d[1] * 1e6 / flows,
                d[2] / flows, d[3] / flows)


def wait_complete(standby, flows, step=0.1):
    """Wait until the standby holds all flows and is sure of them.

    Returns (seconds, flows missing, complete); gives up when nothing moves
    any more.
    """
    begin = moved = time.monotonic()
    best = -1
    while True:
        held, sure = standby.progress()
        now = time.monotonic()
        if held >= flows and sure:
            return now - begin, 0, True
        if held > best:
            best, moved = held, now
        if now - moved > STALL_S:
            return now - begin, max(0, flows - held), False
        time.sleep(step)


class Bench:
    def __init__(self, args, rundir):
        self.args = args
        self.rundir = rundir
        self.res = Results()
        self.lab = None
        self.daemons = []

    # Set-up and clean-up of one competitor.

    def daemon(self, cls, key, flows):
        d = cls(self.lab, key, self.args.bin, self.rundir, flows)
        self.daemons.append(d)
        d.start()
        return d

    def pair(self, cls, flows):
        self.lab = Lab(self.args.bin)
        active = self.daemon(cls, "a", flows)
        standby = self.daemon(cls, "b", flows)
        for node in (active, standby):
            if not wait_complete(node, 0, step=0.02)[2]:
                raise BenchError("the pair does not come up")
        time.sleep(0.5)
        wait_idle(active, standby, limit=10)
        return active, standby

    def stop(self, d):
        d.stop()
        self.daemons.remove(d)

    def clean(self):
        for d in list(self.daemons):
            self.stop(d)
        if self.lab is not None:
            self.lab.close()
            self.lab = None

    # Measurements.

    def floor(self, name, _cls):
        self.lab = Lab(self.args.bin)
        n = 100000 if self.args.quick else 300000
        for who in ("none", "filtered", "unfiltered"):
            out = self.lab.gen("floor", "floor", "-n", n, "-l", who)
            for op in ("create", "update", "rewrite", "delete"):
                self.res.add("%s.%s.%s" % (name, op, who), FLOOR,
                             out[op]["us_per_entry"])

    def commit_floor(self, name, flows):
        """The same entries by a minimal writer, the active's table in place."""
        if not benchlab.wait_quiet():
            self.res.note("%s: the machine is busy with other work" % name)
        out = self.lab.gen("floor", "floor", "-n", flows, "-l", "filtered")
        done = out["create"]
        self.res.add(name + ".commit", FLOOR, done["us_per_entry"])
        self.res.add(name + ".commit_cpu", FLOOR, done["cpu_us_per_entry"])
        self.res.add(name + ".commit_s", FLOOR, done["wall_s"])
        if done["us_per_entry"] > 1.15 * done["cpu_us_per_entry"]:
            self.res.note("%s: the floor ran only %.0f %% of its time; other "
                          "work disturbs wall-clock figures" % (name,
                          100 * done["cpu_us_per_entry"] /
                          done["us_per_entry"]))

    def commit(self, name, active, standby, flows):
        """Commit on the standby and compare both kernels' tables.

        Ends the standby, and takes the floor while the impression is fresh.
        """
        runner = standby.name
        wait_idle(active, standby)
        benchlab.wait_quiet()
        seconds, cpu = standby.commit()
        _, missing, extra, sample = self.lab.difference(standby.fields)
        done = max(1, flows - missing)
        self.res.add(name + ".commit", runner, seconds * 1e6 / done)
        self.res.add(name + ".commit_cpu", runner, cpu * 1e6 / done)
        self.res.add(name + ".commit_s", runner, seconds)
        self.res.add(name + ".missing", runner, missing)
        self.res.add(name + ".extra", runner, extra)
        if missing or extra:
            self.res.note("%s %s: after commit %d missing, %d extra: %s" % (
                runner, name, missing, extra, "; ".join(sample)))
        self.stop(standby)
        self.lab.flush("b")
        wait_idle(active)
        self.commit_floor(name, flows)

    def bulk(self, name, cls):
        """A burst to a running standby; then a standby that starts late."""
        flows = BULK[name]
        res, runner = self.res, cls.name
        active, standby = self.pair(cls, flows)
        rss = active.rss(), standby.rss()
        meter = Meter(self.lab, active, standby)
        begin = time.monotonic()
        self.lab.gen("a", "create", "-n", flows)
        _, missing, complete = wait_complete(standby, flows)
        res.add(name + ".burst_missing", runner, missing)
        if complete:
            res.add(name + ".burst_s", runner, time.monotonic() - begin)
        else:
            res.note("%s %s: not complete after a burst, %d flows missing" % (
                runner, name, missing))
        wait_idle(active, standby)
        cpu_a, cpu_s, _, _ = meter.stop(flows)
        res.add(name + ".active_cpu", runner, cpu_a)
        res.add(name + ".standby_cpu", runner, cpu_s)
        res.add(name + ".active_rss", runner, (active.rss() - rss[0]) / flows)
        res.add(name + ".standby_rss", runner,
                (standby.rss() - rss[1]) / max(1, flows - missing))
        self.commit(name, active, standby, flows)
        self.late_start(name, cls, active, flows)

    def late_start(self, name, cls, active, flows):
        """Full synchronisation: the standby starts when all is there."""
        res, runner = self.res, cls.name
        before = active.cpu()
        begin = time.monotonic()
        standby = self.daemon(cls, "b", flows)
        _, missing, complete = wait_complete(standby, flows, step=0.05)
        seconds = time.monotonic() - begin
        if complete:
            res.add(name + ".sync_s", runner, seconds)
        else:
            res.note("%s %s: full synchronisation not complete, %d missing" % (
                runner, name, missing))
        wait_idle(active, standby)
        res.add(name + ".sync_active_cpu", runner,
                (active.cpu() - before) * 1e6 / flows)
        res.add(name + ".sync_standby_cpu", runner, standby.cpu() * 1e6 / flows)
        self.commit(name, active, standby, flows)

    def steady(self, name, cls):
        """Even load: new flows, then a change of each, then their end."""
        rate = STEADY[name]
        seconds = 4 if self.args.quick else 10
        flows = rate * seconds
        res, runner = self.res, cls.name
        active, standby = self.pair(cls, flows)
        meter = Meter(self.lab, active, standby)
        self.lab.gen("a", "create", "-n", flows, "-r", rate)
        _, missing, _ = wait_complete(standby, flows)
        wait_idle(active, standby, limit=10)
        cpu_a, cpu_s, tx, rx = meter.stop(flows)
        res.add(name + ".missing", runner, missing)
        res.add(name + ".new_active", runner, cpu_a)
        res.add(name + ".new_standby", runner, cpu_s)
        res.add(name + ".wire_tx", runner, tx)
        res.add(name + ".wire_rx", runner, rx)
        res.add(name + ".wire", runner, tx + rx)
        for op, extra in (("update", ("-m", 77)), ("delete", ())):
            meter = Meter(self.lab, active, standby)
            self.lab.gen("a", op, "-n", flows, "-r", rate, *extra)
            wait_idle(active, standby, limit=10)
            cpu_a, cpu_s, _, _ = meter.stop(flows)
            res.add("%s.%s_active" % (name, op), runner, cpu_a)
            res.add("%s.%s_standby" % (name, op), runner, cpu_s)

    def reader_floor(self, name):
        """What an event costs a reader that only parses it."""
        rate = STEADY[name]
        flows = rate * 2
        self.lab = Lab(self.args.bin)
        for op, extra in (("new", ("create",)), ("update", ("update", "-m", 7)),
                          ("delete", ("delete",))):
            reader = self.lab.gen_start("a", "drain", "-p", "-n", flows,
                                        "-i", 10000, stderr=subprocess.PIPE)
            try:
                reader.stderr.readline()
                self.lab.gen("a", *extra, "-n", flows, "-r", rate)
                out = json.loads(reader.communicate(timeout=30)[0])
            finally:
                if reader.poll() is None:
                    reader.kill()
                    reader.wait()
            self.res.add("%s.%s_active" % (name, op), FLOOR,
                         out["cpu_us_per_event"])

    # The run.

    def guarded(self, what, func, *args):
        begin = time.monotonic()
        try:
            func(*args)
            say("  %s: %.0f s" % (what, time.monotonic() - begin))
        except (BenchError, subprocess.SubprocessError, OSError, KeyError,
                ValueError) as e:
            self.res.note("%s failed: %s" % (what, e))
            self.res.add("failures", what.split()[0], 1)
        finally:
            self.clean()

    def repeats(self, name):
        if self.args.repeat:
            return self.args.repeat
        if self.args.quick or name in STEADY:
            return 1
        if name in recover.RECOVERY or name == "overhead":
            return 1
        return 2 if name == "bulk1m" else 3

    def run(self, names, runners):
        for name in names:
            for i in range(self.repeats(name)):
                say("%s, round %d" % (name, i + 1))
                if name == "floor":
                    self.guarded("floor", self.floor, name, None)
                    continue
                if name in STEADY:
                    self.guarded("floor " + name, self.reader_floor, name)
                for cls in runners:
                    if name in recover.FUNCTIONS:
                        self.guarded("%s %s" % (cls.name, name),
                                     recover.FUNCTIONS[name], self, name, cls)
                        continue
                    func = self.bulk if name in BULK else self.steady
                    self.guarded("%s %s" % (cls.name, name), func, name, cls)


# Report.

def verdict(res, metric, kind, limit):
    """(limit as text, PASS, FAIL or '') for one row."""
    ours = res.median(metric, OURS)
    other = res.median(metric, {VS_THEIRS: THEIRS, VS_FLOOR: FLOOR}.get(
        kind, OURS))
    if kind is None:
        return "", ""
    text = {VS_THEIRS: "<= %gx theirs", VS_FLOOR: "<= %gx floor",
            PLAIN: "<= %g"}[kind] % limit
    if ours is None or other is None:
        return text, ""
    # One missing flow in any round is a miss, whatever the median says.
    if kind == PLAIN and limit == 0:
        ours = max(res.samples[metric][OURS])
    bound = limit if kind == PLAIN else limit * other
    return text, "PASS" if ours <= bound else "FAIL"


def number(v):
    if v is None:
        return "-"
    if v == int(v) or abs(v) >= 1000:
        return "%d" % v
    return "%.1f" % v if abs(v) >= 100 else "%.2f" % v


def spread(res, metric):
    """Least and greatest of our rounds, if there were several."""
    values = res.samples[metric].get(OURS, [])
    if len(values) < 2 or min(values) == max(values):
        return ""
    return "%s to %s" % (number(min(values)), number(max(values)))


def ratio(a, b):
    return "-" if a is None or not b else "%.2f" % (a / b)


def report(res):
    """Print the table; returns (rows for JSON, number of misses)."""
    fmt = "%-40s %-9s %10s %10s %8s %7s %7s  %-16s %-4s  %s"
    print(fmt % ("", "unit", OURS, THEIRS, FLOOR, "/theirs", "/floor",
                 "target", "", "our rounds"))
    rows, misses = [], 0
    for metric, title, unit, kind, limit in metric_table():
        if metric not in res.samples:
            continue
        o, t, f = (res.median(metric, r) for r in (OURS, THEIRS, FLOOR))
        target, judged = verdict(res, metric, kind, limit)
        misses += judged == "FAIL"
        print((fmt % (title, unit, number(o), number(t), number(f),
                      ratio(o, t), ratio(o, f), target, judged,
                      spread(res, metric))).rstrip())
        rows.append({"metric": metric, "title": title, "unit": unit,
                     OURS: o, THEIRS: t, FLOOR: f, "target": target,
                     "verdict": judged})
    for text in res.notes:
        print("note: " + text)
    return rows, misses


def environment():
    with open("/proc/loadavg") as f:
        load = f.read().split()[:3]
    env = {"kernel": platform.release(), "cpus": os.cpu_count(),
           "load_before": load,
           "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if shutil.which("conntrackd"):
        out = subprocess.run(["conntrackd", "-v"], text=True, check=False,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        env["conntrackd"] = out.stdout.strip().splitlines()[:1]
    return env


def interrupted(signum, _frame):
    raise KeyboardInterrupt("signal %d" % signum)


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bin", required=True, metavar="DIR",
                   help="where ctsyncd, ctsync and ctlab-ctgen are")
    p.add_argument("--quick", action="store_true",
                   help="small sizes, one round")
    p.add_argument("--json", metavar="FILE", help="write all samples there")
    p.add_argument("--only", metavar="NAME,...",
                   help="measurements (%s) and competitors (%s, %s)" % (
                       ", ".join(MEASUREMENTS), OURS, THEIRS))
    p.add_argument("--repeat", type=int, default=0, metavar="N",
                   help="rounds of each measurement")
    args = p.parse_args()
    args.bin = os.path.abspath(args.bin)
    only = args.only.split(",") if args.only else []
    known = MEASUREMENTS + [OURS, THEIRS]
    for name in only:
        if name not in known:
            p.error("--only: unknown '%s'; known: %s" % (
                name, ", ".join(known)))
    names = [n for n in MEASUREMENTS if n in only] or \
        (QUICK if args.quick else MEASUREMENTS)
    wanted = [r for r in (OURS, THEIRS) if r in only] or [OURS, THEIRS]
    if not os.access(os.path.join(args.bin, "ctlab-ctgen"), os.X_OK):
        p.error("no ctlab-ctgen in " + args.bin)
    if os.geteuid() != 0:
        p.error("needs root: it makes network namespaces")
    return args, names, wanted


def main():
    args, names, wanted = arguments()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, interrupted)
    rundir = tempfile.mkdtemp(prefix="ctbench.")
    os.chmod(rundir, 0o755)
    bench = Bench(args, rundir)
    runners = []
    for cls in RUNNERS:
        why = cls.missing(args.bin)
        if cls.name in wanted and why is not None:
            bench.res.note("%s is not measured: %s" % (cls.name, why))
        elif cls.name in wanted:
            runners.append(cls)
    env = environment()
    sysctls = benchlab.Sysctls()
    stopped = False
    try:
        sysctls.at_least("nf_conntrack_max", 4000000)
        sysctls.at_least("nf_conntrack_buckets", 2097152)
        bench.run(names, runners)
    except KeyboardInterrupt:
        stopped = True
        say("interrupted")
    finally:
        bench.clean()
        sysctls.restore()
        shutil.rmtree(rundir, ignore_errors=True)
    rows, misses = report(bench.res)
    failures = len(bench.res.samples.pop("failures", {}))
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"environment": env, "quick": args.quick, "rows": rows,
                       "samples": bench.res.samples,
                       "notes": bench.res.notes, "misses": misses,
                       "interrupted": stopped}, f, indent=1)
            f.write("\n")
    return 130 if stopped else 1 if misses or failures else 0


if __name__ == "__main__":
    sys.exit(main())
