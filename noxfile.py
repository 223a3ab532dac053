"""The tests at the lowest and at the newest versions that setup.cfg allows.

``pip install nox``, then ``nox -s lowest`` or ``nox -s newest``: each builds the wheel, installs it
into an environment of its own and runs the tests of the source distribution against it.
"""

import configparser
import tarfile
from pathlib import Path

import nox

nox.options.sessions = ["newest"]
ROOT = Path(__file__).parent


def lowest_versions() -> list[str]:
    """Every "package>=version" of setup.cfg as "package==version"."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = {line for line in "\n".join(lists).split("\n") if ">=" in line}
    # The extra for exporting asks for a newer torch than the package does.
    pins = {line.replace(">=", "==").replace("[array]", "") for line in lines}
    return sorted(pin for pin in pins if pin != "torch==2.5")


def run_tests(session: nox.Session, *constraints: str) -> None:
    """Build, install the wheel, and run the tests of the source distribution."""
    dist = Path(session.create_tmp()).resolve()
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT))
    wheel, sdist = max(dist.glob("*.whl")), max(dist.glob("*.tar.gz"))
    session.install(f"{wheel}[test]", *constraints)
    with tarfile.open(sdist) as archive:
        archive.extractall(dist, filter="data")
    session.chdir(dist / sdist.name.removesuffix(".tar.gz"))
    session.run("python", "-m", "pytest", "tests", *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The oldest Python and the oldest versions."""
    path = Path(session.create_tmp(), "lowest.txt")
    path.write_text("\n".join(lowest_versions()), encoding="utf-8")
    run_tests(session, "-c", str(path))


@nox.session(python=["3.11", "3.12", "3.13"])
def newest(session: nox.Session) -> None:
    """Whatever is newest today."""
    run_tests(session)
