# SPDX-License-Identifier: GPL-3.0-or-later
"""Everyday sequences of a pair that real keepalived steers: no connection is lost, none is reset.

In both modes: the role by notify scripts, and by the addresses (takeover.follow_addresses).
`-m "not long"` leaves out what takes longer than about 15 s.
"""

import contextlib
import re

import pytest

import events
from chaos import Chaos
from keepalived import MODES, Live, Pair, line, measure
from lab import wait_for
from tools import takeover

long = pytest.mark.long
# What has been seen in one mode says enough of the other.
by_scripts = pytest.mark.parametrize("mode", ["scripts"])
by_addresses = pytest.mark.parametrize("mode", ["follow"])


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def start(request, bin_dir, mode):
    """start(first="fw1", ...) brings a pair up, with `first` active; see Pair for the rest."""
    with contextlib.ExitStack() as stack:
        def make(first="fw1", **options):
            lab = stack.enter_context(Pair(bin_dir, mode=mode, conntrack_max=262144, **options))
            request.node.funcargs["lab"] = lab      # so that its logs are shown
            refused = lab.refused()
            if refused and "follow_addresses" in refused:
                pytest.skip("this daemon does not follow addresses")
            assert refused is None
            lab.start(getattr(lab, first))
            return lab
        yield make


def costs_nothing(lab, name, event, **options):
    report = measure(lab, name, event, **options)
    assert report["ok"], f"{line(report)}\n{report}"
    assert report["live_missing"] == 0, f"{line(report)}\n{report}"
    return report


# -- what operators saw first ------------------------------------------------------------------


@long
def test_cables_that_carry_nothing(start):
    """The node with the higher address is MASTER throughout: nobody tells it that it was relieved."""
    lab = start(first="fw2")
    told = len(lab.fw2.notified())
    costs_nothing(lab, "a: higher node silent", events.Silent(lab, "fw2", 15))
    assert len(lab.fw2.notified()) == told and lab.master() is lab.fw2


@long
def test_vrrp_split(start):
    """Both are MASTER for a while."""
    lab = start()
    costs_nothing(lab, "b: VRRP split", events.Split(lab, hold=15))


@long
def test_standby_hears_nothing(start):
    """It becomes MASTER of nothing, and wins when it is heard again."""
    lab = start()
    costs_nothing(lab, "b: standby silent", events.Silent(lab, "standby", 15))
    assert lab.master() is lab.fw2


@pytest.mark.parametrize("first", ["fw1", "fw2"])
def test_daemon_of_the_heir_restarts(start, first):
    """notify MASTER finds no daemon."""
    lab = start(first=first)
    costs_nothing(lab, "c: heir's daemon restarts", events.SwitchWhileRestarting(lab))


# -- all others ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["fw1", "fw2"])
def test_switch(start, first):
    lab = start(first=first)
    costs_nothing(lab, "switch", events.Switch(lab))


@by_addresses
def test_switch_masquerade(start):
    lab = start(nat="masquerade")
    costs_nothing(lab, "switch, masquerade", events.Switch(lab))


@by_scripts
def test_switch_virtual_mac(start):
    lab = start(vmac=True)
    costs_nothing(lab, "switch, virtual MAC", events.Switch(lab))


@pytest.mark.parametrize("first", ["fw1", "fw2"])
def test_keepalived_killed(start, first):
    """The addresses stay on the node that lost."""
    lab = start(first=first)
    costs_nothing(lab, "keepalived killed", events.KeepalivedKilled(lab))


def test_failback(start):
    """Preemption by a higher priority."""
    lab = start()
    costs_nothing(lab, "failback", events.Failback(lab))


@by_addresses
@long
def test_ten_failbacks(start):
    lab = start()
    costs_nothing(lab, "ten failbacks", events.Failback(lab, times=10))


@pytest.mark.parametrize("first", ["fw1", "fw2"])
def test_death(start, first):
    lab = start(first=first)
    costs_nothing(lab, "death", events.Death(lab))


@by_addresses
def test_death_of_the_standby(start):
    lab = start()
    costs_nothing(lab, "death of the standby", events.Death(lab, "standby"))


def test_death_after_restart_of_the_heir(start):
    lab = start()
    costs_nothing(lab, "death, heir just restarted", events.DeathAfterRestart(lab))


def test_keepalived_before_the_daemon(start):
    """A node boots, preempts, and has no daemon yet."""
    lab = start()
    costs_nothing(lab, "keepalived before ctsyncd",
                  events.Death(lab, keepalived_first=True, state="MASTER", priority=150))


@long
@pytest.mark.parametrize("first", ["fw1", "fw2"])
def test_frozen(start, first):
    """Whoever is relieved does not see it; its kernel forwards on."""
    lab = start(first=first)
    costs_nothing(lab, "frozen", events.Frozen(lab, hold=6))


@by_addresses
def test_frozen_machine(start):
    lab = start(first="fw2")
    costs_nothing(lab, "frozen machine", events.FrozenMachine(lab, hold=6))


@by_scripts
@long
def test_lower_node_silent(start):
    lab = start()
    costs_nothing(lab, "lower node silent", events.Silent(lab, "fw1", 8))


@long
def test_silent_with_sync(start):
    lab = start(first="fw2")
    costs_nothing(lab, "silent, sync cut too", events.SilentWithSync(lab, "fw2", 8))


@by_addresses
@pytest.mark.parametrize("event", [events.Unplugged, events.UnpluggedWithSync])
def test_unplugged(start, event):
    lab = start()
    costs_nothing(lab, event.__name__, event(lab, hold=4))


@by_scripts
@long
def test_split_with_sync(start):
    lab = start()
    costs_nothing(lab, "VRRP and sync split", events.SplitWithSync(lab, hold=8))


@by_scripts
@pytest.mark.parametrize("event", [events.DaemonRestarted, events.DaemonKilled])
def test_daemon_of_the_active(start, event):
    lab = start()
    costs_nothing(lab, event.__name__, event(lab))


@by_scripts
@long
def test_scripts_late(start):
    """Packets flow, and nobody has told the daemon."""
    lab = start()
    costs_nothing(lab, "scripts 15 s late", events.SwitchScriptsLate(lab))


@by_addresses
@long
def test_nothing_dead_is_left(start):
    """Connections end after a switch and back: no kernel keeps them."""
    lab = start()
    report = costs_nothing(lab, "failback, then all end", events.Failback(lab),
                           dead_after_s=6 * lab.purge_s)
    assert not any(report["dead"].values()), report["dead"]


@long
def test_short_connections(start):
    """They end on one node while the other one holds them: none comes back as a dead entry."""
    lab = start()
    event = events.Switch(lab)

    def there_and_back():
        event()
        lab.hold(3)
        events.Switch(lab)()

    report = costs_nothing(lab, "short connections", there_and_back, dead_after_s=6 * lab.purge_s,
                           traffic=Live(lab, connections=40, opened=100, lifetime=1))
    assert not any(report["dead"].values()), report["dead"]


@long
def test_chaos(bin_dir, mode, request):
    """A minute of events at random."""
    with Pair(bin_dir, mode=mode) as probe:
        if probe.refused():
            pytest.skip("this daemon does not follow addresses")
    chaos = Chaos(bin_dir, modes=[mode], seed=1, keep=True)
    failures = chaos.run(60)
    assert not failures, "\n".join(failures)


# -- what status says -------------------------------------------------------------------------------


@by_scripts
def test_traffic_but_standby(start):
    """Released by hand on the node that has the addresses and the traffic."""
    lab = start()
    assert not alert(lab.fw1, "traffic_on_standby")
    traffic = lab.traffic(connections=40)
    traffic.start()
    lab.fw1.ctsync("release")
    tells(lab.fw1, "TRAFFIC BUT STANDBY")
    assert alert(lab.fw1, "traffic_on_standby")
    assert takeover(lab.fw1)["failed"] == 0
    wait_for(lambda: "TRAFFIC BUT STANDBY" not in lab.fw1.ctsync("status").stdout, 30, "it to be over")
    traffic.finish()


def alert(fw, name):
    """True if a metric whose name or label is that alert is 1."""
    lines = (text.rsplit(" ", 1) for text in fw.ctsync("metrics").stdout.splitlines()
             if text and not text.startswith("#"))
    return any(re.search(rf"\b(\w*_)?{name}(_now)?\b", key) and value == "1" for key, value in lines)


def tells(fw, text, timeout=30):
    wait_for(lambda: text in fw.ctsync("status").stdout, timeout,
             lambda: f"status of {fw.name} to say {text}; it says\n{fw.ctsync('status').stdout}", 0.1)
