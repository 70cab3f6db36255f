# SPDX-License-Identifier: GPL-3.0-or-later
"""A cable that doubles, reorders, delays, spoils and loses datagrams, in both directions."""

import pytest

from lab import wait_for
from relay import Faults, Relay
from tools import Background, count, ctgen, peer, same_kernels, stats, wait_proof

FAULTS = {
    "doubled": Faults(doubled=0.3),
    "reordered": Faults(late=0.3, jitter=0.03),
    "far away": Faults(delay=0.1),
    "all at once": Faults(lost=0.1, doubled=0.2, spoiled=0.02, late=0.5, jitter=0.05, delay=0.005),
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_bad_cable(lab, faults):
    """Flows come, change and go on one side, a few on the other: equal while it goes on, and after."""
    fw1, fw2 = lab.fw1, lab.fw2
    with Relay(lab, faults) as relay:
        for fw in (fw1, fw2):
            fw.start_ctsyncd()
        fw1.ctsync("takeover")
        churning = Background(lambda _stop: ctgen(fw1, "churn", "-o", 100000, "-n", 20000, "-L", 2000,
                                                  "-r", 10000))
        ctgen(fw1, "create", "-n", 20000, "-r", 20000)
        wait_proof(fw2)
        ctgen(fw1, "update", "-n", 20000, "-m", 3, "-r", 20000)
        ctgen(fw1, "delete", "-n", 5000, "-r", 20000)
        ctgen(fw2, "create", "-k", "udp", "-n", 1000)
        wait_proof(fw2)
        wait_proof(fw1)
        assert count(fw2, "remote", "--mark", "3") == 15000
        assert count(fw1, "remote", "-p", "udp") == 1000
        churning.join()
        # Nothing that the cable does makes a daemon believe that the other one was started anew.
        assert all(stats(fw)["peers"][fw.peer.name]["epochs_total"] == 1 for fw in (fw1, fw2))
        assert peer(fw1)["state"] == peer(fw2)["state"] == "up"
        assert relay.seen > 1000
        for fault in ("lost", "doubled", "spoiled", "late"):
            assert bool(getattr(relay, fault)) == bool(getattr(faults, fault)), fault
        rejected = stats(fw2)["rejected"]
        assert rejected["replay_total"] > 0 or not faults.doubled
        assert rejected["bad_tag_total"] > 0 or not faults.spoiled
        assert len(same_kernels(fw2, proto="6 ")) == 15000


def test_restart_behind_a_bad_cable(lab):
    """Both daemons die and come back, with old datagrams still under way: equal, and no old flow."""
    fw1, fw2 = lab.fw1, lab.fw2
    with Relay(lab, Faults(lost=0.05, doubled=0.3, late=0.3, jitter=0.3)):
        for fw in (fw1, fw2):
            fw.start_ctsyncd()
        fw1.ctsync("takeover")
        ctgen(fw1, "create", "-n", 10000)
        wait_proof(fw2)
        for number, fw in enumerate((fw1, fw2, fw1)):
            ctgen(fw1, "update", "-o", 3000, "-n", 7000, "-m", 10 + number)
            fw.daemon.kill()
            ctgen(fw1, "delete", "-o", 1000 * number, "-n", 1000)
            fw.stop_ctsyncd()
            fw.start_ctsyncd()
            wait_proof(fw2)
            assert count(fw2, "remote", "-p", "tcp") == 9000 - 1000 * number
        wait_for(lambda: peer(fw1)["peer_in_sync"], 30, "fw1 to know")
        assert len(same_kernels(fw2)) == 7000
