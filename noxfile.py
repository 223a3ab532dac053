"""The tests at the lowest, at middle and at the newest versions that setup.cfg allows.

``pip install nox``, then ``nox -s lowest``, ``nox -s lowest_torch``, ``nox -s middle`` or
``nox -s newest``: each builds the wheel, installs it with what it asks for into an environment of
its own, and runs the tests and the examples in docstrings of the source distribution there.
"""

import configparser
import tarfile
from collections.abc import Iterable
from pathlib import Path

import nox

nox.options.sessions = ["newest"]
ROOT = Path(__file__).parent
# The extra "export" requires a newer torch than the package, and "serve" requires "export".
WITH_ANOTHER_TORCH = ("export", "serve")
# Versions between the lowest and the newest, with the last scikit-learn without callbacks. All
# other packages are the newest that these allow.
MIDDLE = ("numpy==2.3.*", "scikit-learn==1.8.*", "scipy==1.16.*", "torch==2.10.*", "joblib==1.5.*")
# This scikit-learn reads column names by a protocol that polars deprecated in 1.40.
MIDDLE_BOUNDS = ("polars<1.40",)


def requirements() -> dict[str, list[str]]:
    """Return the requirements in setup.cfg by extra; those of the package have the key ""."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: text.split() for extra, text in lists.items()}


def lowest_versions(left_out: tuple[str, ...] = ()) -> list[str]:
    """Return the lower bounds in setup.cfg as "package==version", without the extras left out.

    A package with two lower bounds gets the higher one.
    """
    pins: dict[str, str] = {}
    for extra, lines in requirements().items():
        for line in lines:
            name, _, bounds = line.replace("[array]", "").partition(">=")
            version = bounds.partition(",")[0]  # without an upper bound
            if version and extra not in left_out:
                pins[name] = max(pins.get(name, version), version, key=as_numbers)
    return sorted(f"{name}=={version}" for name, version in pins.items())


def as_numbers(version: str) -> list[int]:
    """Return the version as numbers, by which 3.10 is newer than 3.9."""
    return [int(part) for part in version.split(".")]


def run_tests(session: nox.Session, extras: str = "test", *arguments: str) -> None:
    """Build, install the wheel, and run all tests in the unpacked source distribution."""
    dist = Path(session.create_tmp()).resolve()
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT))
    wheel, sdist = max(dist.glob("*.whl")), max(dist.glob("*.tar.gz"))
    session.install(f"{wheel}[{extras}]", *arguments)
    with tarfile.open(sdist) as archive:
        archive.extractall(dist, filter="data")
    session.chdir(dist / sdist.name.removesuffix(".tar.gz"))
    session.run("python", "-m", "pytest", *session.posargs)


def constraints(session: nox.Session, pins: Iterable[str]) -> tuple[str, str]:
    """Return the options that restrict pip to these versions."""
    path = Path(session.create_tmp(), "constraints.txt")
    path.write_text("\n".join(pins), encoding="utf-8")
    return "-c", str(path)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Test on the lowest Python with the lowest versions of all extras."""
    run_tests(session, "test", *constraints(session, lowest_versions()))


@nox.session(python="3.11")
def lowest_torch(session: nox.Session) -> None:
    """Test on the lowest torch, without the extras for exporting and serving."""
    ours, *others = requirements()["test"]
    extras = ours.removeprefix("gandetect[").removesuffix("]").split(",")
    kept = ",".join(extra for extra in extras if extra not in WITH_ANOTHER_TORCH)
    pins = lowest_versions(left_out=WITH_ANOTHER_TORCH)
    run_tests(session, kept, *others, *constraints(session, pins))


@nox.session(python="3.12")
def middle(session: nox.Session) -> None:
    """Test on versions between the lowest and the newest."""
    run_tests(session, "test", *constraints(session, MIDDLE + MIDDLE_BOUNDS))


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """Test on the newest released versions."""
    run_tests(session)
