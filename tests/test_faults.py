"""Killed fits, full disks, damaged files, threads and forks: the benchmark of faults, in small."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


@pytest.mark.skipif(sys.platform == "win32", reason="forks and limits are POSIX's")
@pytest.mark.parametrize(
    ("check", "found"),
    [
        ("kills", "2 fits killed"),
        ("full disk", "stayed whole"),
        ("mutations", "ArchiveError"),
        ("concurrency", "the same bits"),
    ],
)
def test_promise_is_kept(check, found):
    command = [sys.executable, SCRIPT, "--kills", "2", "--mutations", "300", "--only", check]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert found in done.stdout
