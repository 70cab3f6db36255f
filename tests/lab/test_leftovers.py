# SPDX-License-Identifier: GPL-3.0-or-later
"""What a standby's kernel has of its own, older than the flows that it takes over; labels that go."""

import json
from socket import IPPROTO_TCP as TCP

import pytest

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


@pytest.fixture
def kernels(lab):
    """fw1 is active; the daemon of fw2 does not run yet: what its kernel has by then is old."""
    lab.fw1.start_ctsyncd()
    lab.fw1.ctsync("takeover")
    with Kernel(lab.fw1.ns) as here, Kernel(lab.fw2.ns) as there:
        yield here, there


def test_old_expectations_make_room(lab, kernels):
    """One for the same tuple, of another master, which goes when its master expects something new."""
    fw2, (here, there) = lab.fw2, kernels
    second, third = (master(f"100.64.0.{n}", help={"name": "ftp"}) for n in (2, 3))
    there.create(second)
    there.create_expect(expectation("100.64.0.3", second))
    for entry in (second, third):
        here.create(entry)
    here.create_expect(expectation("100.64.0.2", second))
    here.create_expect(expectation("100.64.0.3", third))
    fw2.start_ctsyncd()
    wait_equal(fw2)
    assert count(fw2, "remote", "expect") == 2
    answer = takeover(fw2)
    assert answer["failed"] == 0, answer
    wanted = {("100.64.0.2", 2000): "100.64.0.2", ("100.64.0.3", 2000): "100.64.0.3"}
    assert expected(there) == wanted
    wait_for(lambda: count(fw2, "local", "expect") == 2, 20, "fw2 to know that they are its own")
    assert expected(there) == expected(here) == wanted


def test_an_entry_without_its_helper(lab, kernels):
    """It cannot be given one: that and its expectation are counted, nothing fails."""
    fw2, (here, there) = lab.fw2, kernels
    there.create(master("100.64.0.2"))
    of = master("100.64.0.2", help={"name": "ftp"})
    here.create(of)
    here.create_expect(expectation("100.64.0.2", of))
    fw2.start_ctsyncd()
    wait_equal(fw2)
    answer = takeover(fw2)
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
