# SPDX-License-Identifier: GPL-3.0-or-later
"""takeover.follow_addresses: the role follows the addresses, without a script."""

import json
import signal

import pytest

from lab import LAN_VIP, LAN_VIP6, WAN_VIP, WAN_VIP6, Traffic, passed, wait_for
from tools import configure, ctgen, differences, kernel_table, log, wait_holds, wait_log

FOLLOWED = (LAN_VIP, WAN_VIP, LAN_VIP6, WAN_VIP6)
QUICK = 1.0         # that an event of rtnetlink takes, generously


def follow(fw, *addresses, **config):
    words = ", ".join(f'"{a}"' for a in addresses or FOLLOWED)
    configure(fw, takeover_keys=f"follow_addresses = [{words}];", **config)
    return fw.start_ctsyncd()


def role(fw):
    return fw.status()["role"]


def wait_role(fw, wanted):
    wait_for(lambda: role(fw) == wanted, QUICK, f"{fw.name} to be {wanted}", 0.01)


@pytest.mark.smoke
def test_start_and_change(lab):
    """Active with the addresses, standby without, at the start and at each change."""
    fw1, fw2 = lab.fw1, lab.fw2             # the lab gives them to fw1
    fw1.drop_addresses()
    fw1.take_addresses()
    for fw in (fw1, fw2):
        follow(fw)
    assert role(fw1) == "active" and role(fw2) == "standby"
    assert f"fw1 has {LAN_VIP} of takeover.follow_addresses" in log(fw1)
    assert "fw2 has none of takeover.follow_addresses" in log(fw2)
    assert f"follows takeover.follow_addresses: {LAN_VIP} is here" in fw1.ctsync("status").stdout
    assert "none of them is here" in fw2.ctsync("status").stdout
    fw2.wait_ready()
    ctgen(fw1, "create", "-n", 1000)
    wait_holds(fw2, 1000)
    fw1.drop_addresses()
    wait_role(fw1, "standby")
    wait_log(fw1, "fw1 has none of takeover.follow_addresses any more: release")
    fw2.take_addresses()
    wait_role(fw2, "active")
    wait_log(fw2, f"fw2 has {LAN_VIP} now: takeover")
    wait_for(lambda: len(kernel_table(fw2)) == 1000, 20, "fw2 to take over")
    assert not differences(kernel_table(fw1), kernel_table(fw2))


@pytest.mark.smoke
def test_any_of_them(lab):
    """One is enough; the role changes with the first and with the last one only."""
    fw2 = lab.fw2
    follow(fw2)
    assert role(fw2) == "standby"
    fw2.ip(f"addr add {WAN_VIP6}/64 dev wan0 nodad")
    wait_role(fw2, "active")
    fw2.ip(f"addr add {LAN_VIP}/24 dev lan0", f"addr del {WAN_VIP6}/64 dev wan0")
    fw2.ip("addr add 10.1.0.77/24 dev lan0")
    assert role(fw2) == "active"
    fw2.ip(f"addr del {LAN_VIP}/24 dev lan0")
    wait_role(fw2, "standby")
    assert log(fw2).count(": takeover\n") == 1 and log(fw2).count("any more: release") == 1


def test_changes_while_the_daemon_is_down(lab):
    """Neither the role from before nor what was asked for counts against the addresses."""
    fw2 = lab.fw2
    follow(fw2)
    for number in range(2):
        fw2.take_addresses()
        wait_role(fw2, "active")
        fw2.stop_ctsyncd(signal.SIGKILL if number else signal.SIGTERM)
        fw2.drop_addresses()
        fw2.start_ctsyncd()
        assert role(fw2) == "standby"
        fw2.stop_ctsyncd()
        fw2.take_addresses()
        fw2.start_ctsyncd()
        assert role(fw2) == "active"
        fw2.drop_addresses()
        wait_role(fw2, "standby")


def test_by_hand(lab):
    """Carried out, with a warning, until the addresses change or the daemon restarts."""
    fw2 = lab.fw2
    follow(fw2)
    done = fw2.ctsync("takeover")
    assert "warning:" in done.stdout and "follow_addresses" in done.stdout
    assert role(fw2) == "active"
    fw2.take_addresses()                # it is active already
    wait_log(fw2, "now: takeover")
    fw2.drop_addresses()
    wait_role(fw2, "standby")
    fw2.take_addresses()
    wait_role(fw2, "active")
    answer = json.loads(fw2.ctsync("--json", "release").stdout)
    assert "follow_addresses" in answer["warning"] and role(fw2) == "standby"
    fw2.stop_ctsyncd()
    fw2.start_ctsyncd()
    assert role(fw2) == "active"


def test_no_longer_followed(lab):
    """What the addresses wanted last is what is left when they are not followed any more."""
    fw2 = lab.fw2
    follow(fw2)
    fw2.ctsync("takeover")
    fw2.take_addresses()
    wait_log(fw2, "now: takeover")
    fw2.drop_addresses()
    wait_role(fw2, "standby")
    fw2.stop_ctsyncd()
    fw2.start_ctsyncd(boot_wait_s=30)   # a configuration without
    assert role(fw2) == "standby"
    assert "warning:" not in fw2.ctsync("takeover").stdout


def test_address_that_is_being_checked(lab):
    """An IPv6 address counts when it is known to be nobody else's, and not if it is."""
    fw1, fw2 = lab.fw1, lab.fw2
    follow(fw2)
    fw2.sysctl(net__ipv6__conf__lan0__accept_dad=1, net__ipv6__conf__all__accept_dad=1,
               net__ipv6__conf__lan0__dad_transmits=2)

    def shown():
        return fw2.run("ip", "-6", "-o", "addr", "show", "dev", "lan0", "to", LAN_VIP6).stdout
    fw2.ip(f"addr add {LAN_VIP6}/64 dev lan0")
    wait_for(lambda: "dadfailed" in shown(), 20, "fw1 to answer for its address", 0.05)
    assert role(fw2) == "standby"
    fw2.ip(f"addr del {LAN_VIP6}/64 dev lan0")
    fw1.drop_addresses()
    fw2.ip(f"addr add {LAN_VIP6}/64 dev lan0")
    seen = set()

    def settled():
        before = role(fw2)
        tentative = "tentative" in shown()
        seen.add((before, tentative))
        return not tentative
    wait_for(settled, 20, "the address to be checked", 0.05)
    wait_role(fw2, "active")
    assert ("standby", True) in seen and ("active", True) not in seen


@pytest.mark.smoke
def test_switches_with_traffic(lab):
    """There and back: connections go on, and nothing but the addresses has told anybody."""
    old, new = lab.fw1, lab.fw2
    for fw in (old, new):
        follow(fw)
    wait_role(old, "active")
    traffic = Traffic(lab, connections=60, udp=10, ping=5)
    traffic.start()
    for _ in range(2):
        new.wait_ready()
        old.drop_addresses()
        new.take_addresses()
        wait_role(new, "active")
        wait_role(old, "standby")
        traffic.wait_progress(30)
        old, new = new, old
    assert passed(traffic.finish())


def test_dead_firewall(lab):
    fw1, fw2 = lab.fw1, lab.fw2
    for fw in (fw1, fw2):
        follow(fw)
    traffic = Traffic(lab, connections=60, udp=10, ping=5)
    traffic.start()
    fw2.wait_ready()
    fw1.kill()
    fw2.take_addresses()
    traffic.wait_progress(30)
    assert role(fw2) == "active" and passed(traffic.finish())
