# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration as a test: connections survive the death of their firewall, and only with us."""

import json
import subprocess
import sys

import pytest

from lab import HERE


def demo(bin_dir, tmp_path, *options):
    report = tmp_path / "report.json"
    done = subprocess.run([sys.executable, HERE / "demo.py", "--bin", bin_dir, "--json", report,
                           *options], text=True, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(report.read_text())


def tallies(result):
    return [(f"{side}, {kind}", t) for side, report in result["reports"].items()
            for kind, t in report["kinds"].items()]


@pytest.mark.smoke
def test_they_live(bin_dir, tmp_path):
    """120 connections with data in flight: none is lost, none is reset, nothing is corrupt."""
    (result,) = demo(bin_dir, tmp_path, "--part", "first", "--connections", "120", "--seconds",
                     "1")["first"]
    assert result["passed"]
    for what, t in tallies(result):
        assert t["lost"] == 0 and t["reset"] == 0 and t["corrupt_bytes"] == 0, what
        assert t["connections"] >= 20, what
    assert result["drops"] == {"invalid": 0, "unknown": 0}


def test_they_die(bin_dir, tmp_path):
    """The same without synchronisation: every TCP connection is dead."""
    result = demo(bin_dir, tmp_path, "--part", "second", "--connections", "60", "--seconds",
                  "1")["second"]
    assert result["passed"]
    for what, t in tallies(result):
        if what.split(", ")[1] in ("download", "upload", "messages"):
            assert t["lost"] + t["reset"] == t["connections"] >= 10, what
