#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration: a NAT firewall dies and its connections live on; without ctsyncd they die.

First part: traffic runs through fw1, ctsyncd keeps fw2 equal, fw1 is killed, fw2 takes over.
Second part: the same without ctsyncd.  Exit status: 0 if everything survived the first part and
nothing but what needs no state survived the second; 1 otherwise; 2 usage.
"""

import argparse
import json
import sys
import time

from backends import Conntrackd, Ctsyncd, Nothing
from lab import Lab, LabError, Traffic, install_signals, passed

TCP_KINDS = ("download", "upload", "messages")


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, metavar="DIR",
                        help="where ctsyncd, ctsync and ctlab-traffic are")
    parser.add_argument("--part", choices=("first", "second", "both"), default="both")
    parser.add_argument("--repeat", type=int, default=1, metavar="N",
                        help="go through the first part N times")
    parser.add_argument("--connections", type=int, default=600, metavar="N",
                        help="TCP connections (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S",
                        help="let it run S seconds before and after the failover (default: %(default)s)")
    parser.add_argument("--detection", type=float, default=1, metavar="S",
                        help="time until the death of the active is noticed (1)")
    parser.add_argument("--inject", choices=("commit", "mirror"), default="commit",
                        help="how ctsyncd brings flows into the kernel (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all results to FILE")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    # For comparison, and to check the laboratory itself.
    parser.add_argument("--with", dest="backend", choices=("ctsyncd", "conntrackd", "nothing"),
                        default="ctsyncd", help=argparse.SUPPRESS)
    parser.add_argument("--no-failover", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.repeat < 1 or options.connections < 6:
        parser.error("at least one round and 6 connections")
    return options


def say(text):
    print(text, flush=True)


# -- one round ------------------------------------------------------------

def fail_over(lab, backend, detection):
    """Kill fw1 without warning and let fw2 continue; how long each step took.

    It takes time until somebody notices that fw1 is dead (VRRP: some seconds).  Both ends
    retransmit meanwhile, so that old data comes first through fw2, which is what strict
    tracking of windows does not survive.
    """
    began = time.monotonic()
    lab.fw1.kill()
    dead = time.monotonic()
    time.sleep(detection)
    noticed = time.monotonic()
    report = backend.takeover(lab.fw2)
    taken = time.monotonic()
    lab.fw2.take_addresses()
    moved = time.monotonic()
    say(f"  fw2: {report}")
    steps = {"kill_ms": dead - began, "notice_ms": noticed - dead, "takeover_ms": taken - noticed,
             "addresses_ms": moved - taken}
    steps = {name: round(value * 1000) for name, value in steps.items()}
    say("  fw1 dead after {kill_ms} ms, noticed after {notice_ms} ms, takeover {takeover_ms} ms, "
        "addresses moved {addresses_ms} ms".format(**steps))
    return steps


def let_run(seconds, what):
    """The traffic is what takes the time here: it has to flow for so long."""
    say(f"  {what} for {seconds:g} s")
    time.sleep(seconds)


def one_round(options, backend):
    """Build, run, fail over, collect, remove; a dictionary with everything that was seen."""
    with Lab(options.bin, keep=options.keep) as lab:
        backend.start(lab)
        traffic = Traffic(lab, connections=options.connections)
        began = time.monotonic()
        traffic.start()
        say(f"  {6 * traffic.per_kind} TCP connections, {traffic.udp} UDP streams, "
            f"{traffic.ping} pings established in {time.monotonic() - began:.1f} s")
        let_run(options.seconds, "traffic through fw1")
        traffic.wait_progress()
        backend.wait_ready(lab)
        steps = None
        if not options.no_failover:
            steps = fail_over(lab, backend, options.detection)
        let_run(options.seconds, f"traffic through {'fw1' if options.no_failover else 'fw2'}")
        if not traffic.running():
            raise LabError("the traffic program ended early")
        survivor = lab.fw1 if options.no_failover else lab.fw2
        reports = traffic.finish()
        result = {"backend": backend.name, "steps": steps, "reports": reports,
                  "drops": survivor.drops(), "passed": passed(reports)}
        if not result["passed"] and backend.name == "ctsyncd":
            lab.keep = True
        return result


# -- tables ---------------------------------------------------------------

def milliseconds(value):
    return "-" if value is None else f"{value} ms"


def table(result):
    """Rows of one round: a row for each side and kind."""
    head = f"  {'through':<13} {'kind':<9} {'count':>6} {'lost':>5} {'reset':>6} {'corrupt':>8} " \
           f"{'longest pause':>14} {'median':>8} {'packets lost':>13} {'twice':>6} {'MB':>7}"
    say(head)
    say("  " + "-" * (len(head) - 2))
    for side, report in result["reports"].items():
        for kind, t in report["kinds"].items():
            packets = kind in ("udp", "ping")
            megabytes = (t["bytes_received"] + t["bytes_sent"]) / 1e6
            say(f"  {side:<13} {kind:<9} {t['connections']:>6} {t['lost']:>5} {t['reset']:>6} "
                f"{t['corrupt_bytes']:>8} {milliseconds(t['longest_pause_ms']):>14} "
                f"{milliseconds(t['median_pause_ms']):>8} "
                f"{t['packets_lost'] if packets else '':>13} "
                f"{t['packets_duplicated'] if packets else '':>6} {megabytes:>7.1f}")
    drops = ", ".join(f"{count} {name}" for name, count in sorted(result["drops"].items()))
    say(f"  packets dropped in prerouting of the last firewall: {drops}")


def tcp_counts(result):
    """(connections, lost or reset) over all TCP kinds and both sides."""
    tallies = [t for report in result["reports"].values()
               for kind, t in report["kinds"].items() if kind in TCP_KINDS]
    return (sum(t["connections"] for t in tallies), sum(t["lost"] + t["reset"] for t in tallies))


# -- parts ----------------------------------------------------------------

def first_part(options):
    backend = {"ctsyncd": lambda: Ctsyncd(options.inject), "conntrackd": Conntrackd,
               "nothing": Nothing}[options.backend]()
    results = []
    for number in range(1, options.repeat + 1):
        again = f", round {number} of {options.repeat}" if options.repeat > 1 else ""
        say(f"\nWith {backend.name}{again}")
        result = one_round(options, backend)
        table(result)
        count, dead = tcp_counts(result)
        say(f"  {count - dead} of {count} TCP connections survived: "
            f"{'PASSED' if result['passed'] else 'FAILED'}")
        results.append(result)
    return results


def second_part(options):
    say("\nWithout synchronisation")
    result = one_round(options, Nothing())
    table(result)
    count, dead = tcp_counts(result)
    # Whoever has no state to lose may live: what counts is that TCP through NAT does not.
    result["passed"] = dead == count
    say(f"  {dead} of {count} TCP connections died: "
        f"{'as expected' if result['passed'] else 'UNEXPECTED'}")
    return result


def run(options):
    results = {"first": [], "second": None}
    began = time.monotonic()
    try:
        if options.part in ("first", "both"):
            results["first"] = first_part(options)
        if options.part in ("second", "both"):
            results["second"] = second_part(options)
    finally:
        if options.json:
            with open(options.json, "w", encoding="utf-8") as fp:
                json.dump(results, fp, indent=2)
    good = all(r["passed"] for r in results["first"])
    if results["second"] is not None:
        good = good and results["second"]["passed"]
    say(f"\n{'OK' if good else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def main(argv):
    options = parse_arguments(argv)
    install_signals()
    try:
        return run(options)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
