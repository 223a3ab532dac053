"""Killed fits, full disks, damaged files, threads and forks: the benchmark of faults, in small."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import needs_callbacks

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "faults.py"


@pytest.mark.skipif(sys.platform == "win32", reason="forks and limits are POSIX's")
@pytest.mark.parametrize(
    ("check", "found"),
    [
        pytest.param("kills", "2 fits killed", marks=needs_callbacks),
        ("full disk", "stayed whole"),
        pytest.param("mutations", "ArchiveError", marks=needs_callbacks),
        ("concurrency", "the same bits"),
    ],
)
def test_promise_is_kept(check, found):
    command = [sys.executable, SCRIPT, "--kills", "2", "--mutations", "300", "--only", check]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert found in done.stdout
