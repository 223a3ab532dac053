"""Count the files of the package in which one call runs functions.

A file counts as entered if a function in it runs; files that are only imported do not count. The
targets for GANomalyDetector on rows are: fit(X) 12, predict(X) 8, to_onnx 10, gandetect fit 22,
gandetect predict 18.

Run from the repository root: ``python benchmarks/files_entered.py [--all] [--names]``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from inspect import CO_NEWLOCALS
from io import StringIO
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1] / "gandetect"
TARGETS = {
    "fit(X)": 12,
    "predict(X)": 8,
    "to_onnx": 10,
    "gandetect fit": 22,
    "gandetect predict": 18,
}


def files_entered(call: Callable[[], object]) -> list[str]:
    """Return the files of the package whose functions run in a call, sorted."""
    codes = set()

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_flags & CO_NEWLOCALS:  # neither module nor class
            codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    # Functions that dataclasses generate have no file.
    files = {Path(code.co_filename) for code in codes}
    return sorted(str(f.relative_to(PACKAGE)) for f in files if f.is_relative_to(PACKAGE))


def of_the_library(name: str) -> dict[str, list[str]]:
    """Return the files of fit, predict and to_onnx of a detector, on rows."""
    import numpy as np

    import gandetect
    from gandetect.export import to_onnx

    X = np.random.default_rng(0).normal(size=(40, 4))
    parameters = {"epochs": 1, "n_estimators": 1, "random_state": 0}
    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Callable[[], object]] = {
            "fit(X)": lambda: fresh.fit(X),
            "predict(X)": lambda: detector.predict(X),
            "to_onnx": lambda: to_onnx(detector, Path(folder, "model.onnx"), X),
        }
        fresh, detector = (getattr(gandetect, name)(**parameters) for _ in range(2))
        detector.fit(X)
        return {name: files_entered(call) for name, call in calls.items()}


def of_the_commands() -> dict[str, list[str]]:
    """Return the files of ``gandetect fit`` and ``gandetect predict``, on a table."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        table, model = Path(folder, "rows.csv"), Path(folder, "model")
        X = np.random.default_rng(0).normal(size=(40, 4))
        np.savetxt(table, X, delimiter=",", header="a,b,c,d", comments="")
        data = ["--data", str(table)]
        small = ["--set", "epochs=1", "--set", "n_estimators=1"]
        fit = _entered_by_command(["fit", "ganomaly", *data, *small, "--out", str(model)])
        predict = _entered_by_command(["predict", str(model), *data])
    return {"gandetect fit": fit, "gandetect predict": predict}


def _entered_by_command(arguments: list[str]) -> list[str]:
    from gandetect.cli import main

    def command() -> None:
        with redirect_stdout(StringIO()):
            code = main(arguments)
        if code != 0:
            raise SystemExit(f"gandetect {' '.join(arguments)} failed")

    command()
    return files_entered(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print for each call the number of files, the target, and with ``--names`` the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help="fit, predict and to_onnx of every detector"
    )
    parser.add_argument("--names", action="store_true", help="name the files")
    options = parser.parse_args(arguments)
    lines = {**of_the_library("GANomalyDetector"), **of_the_commands()}
    if options.all:
        from gandetect import detectors

        for name in detectors.__all__:
            lines |= {f"{name} {call}": files for call, files in of_the_library(name).items()}
    for call, files in lines.items():
        target = f" of at most {TARGETS[call]}" if call in TARGETS else ""
        print(f"{call}: {len(files)}{target}")
        if options.names:
            print("\n".join(f"    {file}" for file in files))


if __name__ == "__main__":
    main()
