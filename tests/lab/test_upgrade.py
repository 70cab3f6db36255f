# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of which one node runs an older version, as during an upgrade.

ctlab-older knows no attribute of a flow that came after the first version, and
no expectations.
"""

from socket import IPPROTO_TCP as TCP

from ctnl import Kernel, make_tuple
from lab import CLIENT, SERVER, wait_for
from tools import count

OLDER = "ctlab-older"


def add_sctp(fw, port):
    """A flow with what the older version does not know: tags of SCTP."""
    fw.run("conntrack", "-I", "-p", "sctp", "-s", CLIENT, "-d", SERVER, "--sport", port, "--dport",
           5001, "--state", "ESTABLISHED", "--orig-vtag", 7, "--reply-vtag", 9, "-t", 300, "-u",
           "SEEN_REPLY,ASSURED")


def start(lab, one, other):
    lab.fw1.start_ctsyncd(program=one)
    lab.fw2.start_ctsyncd(program=other)
    lab.fw1.ctsync("takeover")
    lab.fw2.wait_ready()
    return lab.fw1, lab.fw2


def test_an_older_standby_skips_what_it_does_not_know(lab):
    fw1, fw2 = start(lab, "ctsyncd", OLDER)
    for port in range(6000, 6010):
        add_sctp(fw1, port)
    wait_for(lambda: count(fw2, "remote", "-p", "sctp") == 10 and fw2.ready(), 20,
             "the older standby to hold the flows and to be ready")
    fw1.stop_ctsyncd()
    fw2.ctsync("takeover")
    assert count(fw2, "kernel", "-p", "sctp") == 10
    # It tells them on with what it did not know.
    fw1.run("conntrack", "-F")
    fw1.start_ctsyncd()
    wait_for(lambda: count(fw1, "remote", "-p", "sctp") == 10 and fw1.in_sync(), 20,
             "the newer node to hold them again")


def test_a_newer_standby_of_an_older_node(lab):
    fw1, fw2 = start(lab, OLDER, "ctsyncd")
    for port in range(6000, 6010):
        add_sctp(fw1, port)
    wait_for(lambda: count(fw2, "remote", "-p", "sctp") == 10 and fw2.in_sync(), 20,
             "the newer standby to hold the flows")
    assert fw2.ready()
    fw1.stop_ctsyncd()
    fw2.ctsync("takeover")
    assert count(fw2, "kernel", "-p", "sctp") == 10


def test_an_older_standby_refuses_what_it_must_understand(lab):
    """Expectations: it says so and is not ready; what it can read it holds."""
    fw1, fw2 = start(lab, "ctsyncd", OLDER)
    inside, outside = "100.64.0.1", "198.18.0.1"
    with Kernel(fw1.ns) as kernel:
        kernel.create({"orig": make_tuple(inside, outside, TCP, 1025, 21),
                       "reply": make_tuple(outside, inside, TCP, 21, 1025), "status": 0xe,
                       "timeout": 300, "help": {"name": "ftp"},
                       "protoinfo": {"tcp": {"state": 3}}})
        wait_for(lambda: count(fw2, "remote", "-p", "tcp") == 1 and fw2.ready(), 20,
                 "the older standby to hold the master, whose helper it does not know")
        expect = {"tuple": make_tuple(outside, inside, TCP, 0, 2000),
                  "mask": make_tuple("255.255.255.255", "255.255.255.255", TCP, 0, 65535),
                  "master": make_tuple(inside, outside, TCP, 1025, 21), "timeout": 300}
        kernel.create_expect(expect)
        wait_for(lambda: count(fw1, "local", "expect") == 1, 10, "the daemon to know the expectation")
        wait_for(lambda: "newer version" in fw2.ctsync("ready", check=False).stdout, 20,
                 "the older standby to say that it cannot read everything")
        assert count(fw2, "remote", "-p", "tcp") == 1
        assert "only a newer version understands" in fw2.log_tail(200)
