# SPDX-License-Identifier: GPL-3.0-or-later
"""What a standby's kernel has of its own, older than the flows that it takes over; labels that go."""

import json
import time
from socket import IPPROTO_TCP as TCP

from ctnl import Kernel, make_tuple
from lab import wait_for
from tools import count, takeover, wait_equal

OUTSIDE = "198.18.0.1"
FULL = "255.255.255.255"
RULES = "table ip labelled { chain any { type filter hook forward priority 0; ct label set 1; }; }"


def master(inside, **more):
    return {"orig": make_tuple(inside, OUTSIDE, TCP, 1025, 21),
            "reply": make_tuple(OUTSIDE, inside, TCP, 21, 1025), "status": 0xe, "timeout": 300,
            "protoinfo": {"tcp": {"state": 3}}, **more}


def expectation(inside, of, port=2000):
    return {"tuple": make_tuple(OUTSIDE, inside, TCP, 0, port), "mask": make_tuple(FULL, FULL, TCP, 0, 65535),
            "master": of["orig"], "timeout": 300}


def expected(kernel):
    """Who expects what: {(address, port): address of the client of the master}."""
    return {(e["tuple"]["ip"]["dst"], e["tuple"]["proto"]["dport"]): e["master"]["ip"]["src"]
            for e in kernel.expects()}


def takeover_later(fw):
    """What came by an event in the second of a takeover counts as newer than that."""
    wait_equal(fw)
    time.sleep(1.1)
    return takeover(fw)


def test_old_expectations_make_room(pair):
    """One for the same tuple, of another master, which goes when its master expects something new."""
    fw1, fw2 = pair
    second, third = (master(f"100.64.0.{n}", help={"name": "ftp"}) for n in (2, 3))
    with Kernel(fw1.ns) as here, Kernel(fw2.ns) as there:
        there.create(second)
        there.create_expect(expectation("100.64.0.3", second))
        for entry in (second, third):
            here.create(entry)
        here.create_expect(expectation("100.64.0.2", second))
        here.create_expect(expectation("100.64.0.3", third))
        wait_for(lambda: count(fw2, "remote", "expect") == 2, 20, "fw2 to know of both")
        answer = takeover_later(fw2)
        assert answer["failed"] == 0, answer
        wanted = {("100.64.0.2", 2000): "100.64.0.2", ("100.64.0.3", 2000): "100.64.0.3"}
        assert expected(there) == wanted
        wait_for(lambda: count(fw2, "local", "expect") == 2, 20, "fw2 to know that they are its own")
        assert expected(there) == wanted


def test_an_entry_without_its_helper(pair):
    """It cannot be given one: that and its expectation are counted, nothing fails."""
    fw1, fw2 = pair
    with Kernel(fw1.ns) as here, Kernel(fw2.ns) as there:
        there.create(master("100.64.0.2"))
        of = master("100.64.0.2", help={"name": "ftp"})
        here.create(of)
        here.create_expect(expectation("100.64.0.2", of))
        wait_for(lambda: count(fw2, "remote", "expect") == 1, 20, "fw2 to know of the expectation")
        answer = takeover_later(fw2)
        assert (answer["failed"], answer["without_helper"]) == (0, 2), answer
        assert there.expects() == []


def test_the_last_label_goes(pair):
    """The event of that names no label, as others do."""
    fw1, fw2 = pair
    for fw in (fw1, fw2):
        fw.run("nft", "-f", "-", input=RULES)
    with Kernel(fw1.ns) as kernel:
        flow = master("100.64.0.2", labels="06" + "00" * 15, labels_mask="ff" * 16)
        kernel.create(flow)

        def labels(fw, table):
            listed = json.loads(fw.ctsync("--json", "show", table, "-p", "tcp").stdout)
            return [f.get("labels") for f in listed]
        wait_for(lambda: labels(fw2, "remote") not in ([], [None]), 20, "the labels to arrive")
        kernel.create({"orig": flow["orig"], "labels": "00" * 16, "labels_mask": "ff" * 16}, flags=0)
        assert "labels" not in kernel.get(flow)
        wait_for(lambda: labels(fw2, "remote") == [None], 20, "fw2 to know that there are none")
        wait_equal(fw2)
