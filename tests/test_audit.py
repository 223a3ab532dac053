"""What `.ci/audit` says of the ends that pip-audit may come to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parents[1] / ".ci" / "audit"

pytestmark = pytest.mark.skipif(
    os.name == "nt" or shutil.which("bash") is None or not AUDIT.exists(),
    reason="a script for bash, which stands in a checkout",
)

CLEAN = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "Dependency not found on PyPI"}


def audit(folder, *, report=None, errors="", status=0):
    """Run the script with a Python whose pip-audit comes to this end."""
    (folder / "report").write_text("" if report is None else json.dumps({"dependencies": report}))
    (folder / "errors").write_text(errors)
    python = folder / "python"
    python.write_text(
        f"""#!/usr/bin/env bash
if [ "${{2:-}}" != pip_audit ]; then exec "{sys.executable}" "$@"; fi
cat "{folder}/errors" >&2
cat "{folder}/report" > "${{!#}}"
exit {status}
"""
    )
    python.chmod(0o755)
    return subprocess.run(["bash", AUDIT, python], capture_output=True, text=True, timeout=60)


def test_no_weakness(tmp_path):
    done = audit(tmp_path, report=[CLEAN, UNKNOWN])
    assert (done.returncode, done.stderr) == (0, "")
    assert "no known weakness in 1 of 2" in done.stdout


def test_a_weakness(tmp_path):
    done = audit(tmp_path, report=[{**CLEAN, "vulns": [{"id": "CVE-1"}]}], status=1)
    assert done.returncode == 1
    assert "CVE-1" in done.stdout


def test_a_list_that_has_nothing(tmp_path):
    done = audit(tmp_path, report=[UNKNOWN])
    assert done.returncode == 0
    assert "skipped" in done.stdout


@pytest.mark.parametrize(
    "errors",
    [
        "Traceback\nrequests.exceptions.ProxyError: HTTPSConnectionPool(host='a')\n",
        "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\n",
        "Traceback\npip_audit._service.interface.ServiceError\n",
    ],
)
def test_no_network(tmp_path, errors):
    done = audit(tmp_path, errors=errors, status=1)
    assert done.returncode == 0
    assert "cannot be reached" in done.stdout


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_crash(tmp_path, status):
    errors = "Traceback\nModuleNotFoundError: No module named 'pip_audit'\n"
    done = audit(tmp_path, errors=errors, status=status)
    assert done.returncode == 1
    assert "No module named 'pip_audit'" in done.stderr
    assert "cannot be reached" not in done.stdout
