# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the lab tests.

    python3 -m pytest tests/lab --bin=BUILD_DIRECTORY      as root

Each test has a topology of its own (it takes a fraction of a second), so that none
depends on what another one left behind.  When a test fails, the logs of its daemons are
shown and its run directory is kept.
"""

import os
import signal
from pathlib import Path

import pytest

from lab import HERE, Lab, LabError, remove_stale
from matrix import Matrix

LONGEST_TEST_S = 180


def pytest_addoption(parser):
    build = Path(__file__).resolve().parents[2] / "build"
    parser.addoption("--bin", default=os.environ.get("CTSYNC_BIN", str(build)),
                     help="where ctsyncd, ctsync and the lab programs are")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes longer than about 15 s")
    config.addinivalue_line("markers", "smoke: short, for the inner loop and for sanitized daemons")


def pytest_sessionstart(session):
    def stop(signum, _frame):
        raise KeyboardInterrupt(f"signal {signum}")
    signal.signal(signal.SIGTERM, stop)     # so that fixtures clean up
    if os.geteuid() == 0:
        remove_stale()


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="network namespaces need root"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    lab = item.funcargs.get("lab") if hasattr(item, "funcargs") else None
    if not report.failed or lab is None:
        return
    lab.keep = True
    for fw in (lab.fw1, lab.fw2):
        report.sections.append((f"log of {fw.name}", fw.log_tail(40)))
        if hasattr(fw, "keepalived_log"):
            states = [text for text in fw.keepalived_log().splitlines() if " STATE" in text]
            report.sections.append((f"keepalived of {fw.name}", "\n".join(states[-20:])))
    report.sections.append(("run directory", str(lab.run_dir)))


@pytest.fixture(autouse=True)
def deadline():
    """Nothing hangs: a test that takes this long has failed."""
    def too_late(_signum, _frame):
        raise LabError(f"the test was not done within {LONGEST_TEST_S} s")
    old = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(LONGEST_TEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def bin_dir(request):
    return Path(request.config.getoption("--bin")).resolve()


@pytest.fixture
def lab(bin_dir):
    """The topology, no daemon running."""
    with Lab(bin_dir, conntrack_max=262144) as topology:
        yield topology


@pytest.fixture
def matrix(bin_dir, request):
    """fw1 is active and fw2 ready, with the ruleset matrix.nft: see matrix.py."""
    with Lab(bin_dir, ruleset=HERE / "matrix.nft") as topology:
        request.node.funcargs["lab"] = topology     # so that its logs are shown
        made = Matrix(topology)
        made.start()
        yield made
        made.close()


@pytest.fixture
def read_only(lab):
    """The daemon of fw1 cannot set sysctls: it stays blind when events are switched off.  Before pair."""
    lab.fw1.read_only = True
    lab.fw1.sysctl(net__netfilter__nf_conntrack_events=1, net__netfilter__nf_conntrack_acct=1)


@pytest.fixture
def pair(lab):
    """Both daemons run, fw1 is active, fw2 is equal and ready: (fw1, fw2)."""
    for fw in (lab.fw1, lab.fw2):
        fw.start_ctsyncd()
    lab.fw1.ctsync("takeover")
    lab.fw2.wait_ready()
    return lab.fw1, lab.fw2
