"""Versions of the packages and properties of the machine, for bug reports."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections import defaultdict
from importlib import metadata

import numpy as np
import sklearn
import torch

from gandetect import __version__

# The packages on which the numbers of a fitted detector depend.
VERSIONS = {
    "gandetect": __version__,
    "torch": str(torch.__version__),
    "numpy": np.__version__,
    "scikit-learn": sklearn.__version__,
    "python": platform.python_version(),
}
_REQUIREMENT = re.compile(r"([\w.-]+).*?(?:;.*\bextra == ['\"]([\w-]+)['\"].*)?$")
# Extras for the development of gandetect, which are not relevant for bug reports.
_OF_DEVELOPERS = {"test", "lint", "docs", "dev"}


def show_versions() -> None:
    """Print the versions and the platform for a bug report.

    These are the versions of Python, gandetect, its requirements and the requirements of its extras
    ("-" if not installed), the platform, the processor, the build of torch, and the devices that
    torch finds. Names of users and paths are not printed.

    Examples
    --------
    >>> import gandetect.versions
    >>> gandetect.versions.show_versions()  # doctest: +ELLIPSIS
    System
        python: 3...
        platform: ...
    """
    required = _required()
    sections = {
        "System": _system(),
        "Packages": {name: _version(name) for name in ("gandetect", *required.pop("", ()))},
        "torch": _torch(),
    }
    for extra, names in required.items():
        sections[f"Extra {extra}"] = {name: _version(name) for name in names}
    for head, lines in sections.items():
        print(head)
        for name, value in lines.items():
            print(f"    {name}: {value}")


def _system() -> dict[str, str]:
    """Return the versions of the interpreter and the system, and the processor."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "python": platform.python_version(),
        "implementation": f"{platform.python_implementation()}, {sys.maxsize.bit_length() + 1} bit",
        "platform": platform.platform(),
        "processor": f"{platform.machine()}, {capability}, {os.cpu_count()} cores",
    }


def _torch() -> dict[str, str]:
    """Return the build of torch and its available devices."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "build": torch.__version__,
        "cuda": torch.version.cuda or "-",
        "rocm": torch.version.hip or "-",
        "devices": ", ".join(["cpu", *devices]),
        "threads": str(torch.get_num_threads()),
    }


def _required() -> dict[str, list[str]]:
    """Return the requirements of gandetect by extra; those without an extra have the key ""."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        lines = metadata.requires("gandetect") or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        lines = ["torch", "numpy", "scikit-learn", "scipy"]
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match and match[1] != "gandetect" and (match[2] or "") not in _OF_DEVELOPERS:
            found[match[2] or ""].append(match[1])
    return dict(found)


def _version(name: str) -> str:
    """Return the installed version of a package, or "-"."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "-"
