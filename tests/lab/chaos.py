#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events at random against a firewall pair with real keepalived, under traffic that goes on.

After each event the pair has to settle, and every connection has to go forward: none may be lost or
reset, none may lack an entry on the active node.  The sequence of events depends on the seed alone.
Exit status: 0 if nothing was lost, 1 otherwise, 2 usage.
"""

import argparse
import random
import sys
import time

import events
from keepalived import MODES, Live, Pair, keep_state, live_connections, unknowable
from lab import LabError, install_signals

ANY = ("active", "standby", "fw1", "fw2")
ACTIVE = ("active",)
ROUND_S = 120           # a new pair after that, in the other mode

# Event, its share, whom it may happen to, for how many seconds.
CHOICES = (
    (events.Switch, 3, ACTIVE, (0, 4)),
    (events.KeepalivedKilled, 1, ACTIVE, (1, 6)),
    (events.Failback, 2, ACTIVE, (0, 2)),
    (events.Death, 3, ANY, (1, 6)),
    (events.Frozen, 2, ANY, (1, 8)),
    (events.FrozenMachine, 1, ANY, (1, 8)),
    (events.Silent, 2, ANY, (2, 15)),
    (events.SilentWithSync, 1, ANY, (2, 10)),
    (events.Unplugged, 2, ANY, (1, 6)),
    (events.UnpluggedWithSync, 1, ANY, (1, 6)),
    (events.Split, 2, ACTIVE, (2, 15)),
    (events.SplitWithSync, 1, ACTIVE, (2, 10)),
    (events.DaemonRestarted, 1, ANY, (0, 3)),
    (events.DaemonKilled, 1, ANY, (0, 3)),
    (events.SwitchWhileRestarting, 2, ACTIVE, (0, 2)),
    (events.DeathAfterRestart, 1, ACTIVE, (1, 3)),
    (events.SwitchScriptsLate, 1, ACTIVE, (0, 1)),
)
SECOND_PERCENT = 25     # so often something else happens to the other node's daemon meanwhile


class Chaos:
    """modes: in turn.  names: of the events to choose from, all by default."""

    def __init__(self, bin_dir, modes=MODES, seed=0, names=(), stop=False, keep=False, out=print):
        self.bin_dir = bin_dir
        self.modes = list(modes)
        self.seed = seed
        self.choices = [c for c in CHOICES if not names or c[0].__name__ in names]
        self.stop = stop            # at the first failure
        self.keep = keep
        self.out = out
        self.number = 0             # of the next event
        self.failures = []
        self.counts = {}
        self.connections = self.lost = self.reset = 0
        self.began = 0

    def say(self, text):
        self.out(f"{time.monotonic() - self.began:7.1f}  {text}", flush=True)

    def fail(self, text):
        self.failures.append(text)
        self.say(f"FAILED: {text}")

    def run(self, seconds):
        """Go on for so long; the failures."""
        self.began = time.monotonic()
        end = self.began + seconds
        turn = 0
        while time.monotonic() < end and self.modes:
            mode = self.modes[turn % len(self.modes)]
            turn += 1
            try:
                self.round(mode, min(end, time.monotonic() + ROUND_S))
            except LabError as error:
                self.fail(f"mode {mode}, not tried again: {error}")
                self.modes.remove(mode)
            if self.failures and self.stop:
                break
        return self.failures

    def round(self, mode, end):
        with Pair(self.bin_dir, mode=mode, conntrack_max=262144) as lab:
            lab.start()
            self.say(f"a new pair, mode {mode}")
            traffic = self.traffic(lab)
            failed = False
            while time.monotonic() < end and not failed:
                before = len(self.failures)
                traffic = self.step(lab, traffic)
                failed = len(self.failures) > before
            if not failed:
                self.judge(lab, traffic, "at the end of the round")
            lab.keep = failed and self.keep

    def traffic(self, lab):
        traffic = Live(lab, connections=80, opened=8, lifetime=20)
        traffic.start()
        return traffic

    # -- one event ----------------------------------------------------------------

    def choose(self, lab):
        """The event of this number: (event, hold, seconds before the second one or None, its kind)."""
        rng = random.Random(f"{self.seed}/{self.number}")
        self.number += 1
        kind, _share, whom, (least, most) = \
            rng.choices(self.choices, weights=[c[1] for c in self.choices])[0]
        hold = round(rng.uniform(least, most), 1)
        event = kind(lab, who=rng.choice(whom), hold=hold)
        if isinstance(event, events.SwitchScriptsLate):
            event.late = round(rng.uniform(1, 8), 1)
        second = None
        if rng.randrange(100) < SECOND_PERCENT:
            second = (round(rng.uniform(0, hold), 1),
                      rng.choice((events.DaemonRestarted, events.DaemonKilled)))
        return event, hold, second

    def step(self, lab, traffic):
        """One event and what is left of the connections; the traffic, which may be another one then."""
        event, hold, second = self.choose(lab)
        what = type(event).__name__
        self.counts[what] = self.counts.get(what, 0) + 1
        name = f"event {self.number - 1}: {what}"
        began = time.monotonic()
        try:
            event.begin()
            self.say(f"event {self.number - 1}: {what}: {event}")
            self.last(lab, event, hold, second)
            event.end()
            self.say("  healed")
            lab.wait_path(lab.wait_settled())
        except LabError as error:
            self.fail(f"{name}: {error}")
            return traffic
        return self.check(lab, traffic, name, began)

    def last(self, lab, event, hold, second):
        if second is None or event.node is None or event.node.peer.daemon is None:
            lab.hold(hold)
            return
        lab.hold(second[0])
        other = second[1](lab, who=event.node.peer.name)
        other()
        self.say(f"  meanwhile: {other}")
        lab.hold(hold - second[0])

    # -- what became of the connections --------------------------------------------------

    def check(self, lab, traffic, name, began):
        pending, failed = traffic.wait_alive()
        if pending:
            keep_state(lab)
        missing = live_connections(lab) - set(lab.wait_master().tcp_table())
        if missing and not pending:
            self.fail(f"{name}: {len(missing)} live connections have no entry: {sorted(missing)[:3]}")
        if pending or failed:
            before = len(self.failures)
            self.judge(lab, traffic, name)
            if len(self.failures) == before:
                return self.traffic(lab)
            return traffic
        total = traffic.opened()
        self.say(f"  all well after {time.monotonic() - began:.1f} s, {total} connections so far")
        return traffic

    def judge(self, lab, traffic, name):
        """End the traffic and look at each connection that did not end well."""
        traffic.finish()
        records = traffic.records()
        self.connections += len(records)
        bad = [r for r in records if r["failure"] != "none" and not unknowable(r, lab.unseen)]
        if not bad:
            return
        reset = sum(r["failure"] in ("reset", "closed") for r in bad)
        self.lost += len(bad) - reset
        self.reset += reset
        self.fail(f"{name}: {len(bad) - reset} lost, {reset} reset of {len(records)}, for instance {bad[0]}")

    def summary(self):
        self.say("ended")
        for name, count in sorted(self.counts.items()):
            self.out(f"  {count:5} {name}")
        self.out(f"{sum(self.counts.values())} events, {self.connections} connections in all, "
                 f"{self.lost} lost, {self.reset} reset, {len(self.failures)} failures; seed {self.seed}")
        for text in self.failures:
            self.out(f"FAILED: {text}")


def supported(bin_dir, modes):
    """Those modes that the daemon takes the configuration of."""
    found = []
    for mode in modes:
        with Pair(bin_dir, mode=mode) as lab:
            why = lab.refused()
        if why:
            print(f"not in mode {mode}: {why}")
        else:
            found.append(mode)
    return found


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float, metavar="SECONDS")
    parser.add_argument("seed", type=int, nargs="?", metavar="SEED",
                        help="by default a new one, which is printed")
    parser.add_argument("--bin", required=True, metavar="DIR", help="where ctsyncd and ctsync are")
    parser.add_argument("--mode", choices=MODES, help="one mode; by default they take turns")
    parser.add_argument("--event", action="append", default=[], metavar="NAME",
                        choices=[c[0].__name__ for c in CHOICES], help="choose from these only")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="N",
                        help="begin with event N of the sequence (0)")
    parser.add_argument("--stop", action="store_true", help="end with the first failure")
    return parser.parse_args(argv)


def main(argv):
    options = parse_arguments(argv)
    install_signals()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    modes = supported(options.bin, [options.mode] if options.mode else MODES)
    if not modes:
        return 1
    chaos = Chaos(options.bin, modes, seed, options.event, options.stop, keep=True)
    chaos.number = options.first
    try:
        chaos.run(options.seconds)
    finally:
        chaos.summary()
    return 1 if chaos.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
