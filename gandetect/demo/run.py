"""Run the demo: fit the methods, print the tables, and save pictures and reports."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from gandetect.demo.attack import attack_and_defend, defence_table
from gandetect.demo.evaluation import Result, fit_and_judge, table
from gandetect.demo.known import known_table, with_and_without
from gandetect.demo.methods import make_methods, select_detectors
from gandetect.demo.pictures import save_pictures
from gandetect.demo.tasks import TASKS, Task
from gandetect.model import limited_to
from gandetect.plotting.style import matplotlib_module

_INTRODUCTION = """\
Each method is fitted to normal samples only. Its threshold is inferred from an unlabelled mixed
batch and the share of anomalies in this batch. It is evaluated on other samples. The detectors have
their default parameters, except for fewer epochs, and use one thread. Tasks:
"""
_FOOTNOTE = """\
AUROC and average precision measure the scores. The share flagged and the false alarms measure the
threshold. False alarms: share of the normal test samples that are flagged."""


def run_demo(
    out: str | os.PathLike[str] = "demo-output",
    *,
    seed: int = 0,
    detectors: Sequence[str] | None = None,
    epochs: int | None = None,
) -> list[Result]:
    """Fit every method to every task, print the table and save pictures and reports.

    The table is written to standard output, the progress to standard error.

    Parameters
    ----------
    out : str or path, default="demo-output"
        Folder for the pictures and reports; created if needed.
    seed : int, default=0
        Seed of the splits and of all methods.
    detectors : sequence of str or None, default=None
        Detectors to run in addition to the baselines. None runs all.
    epochs : int or None, default=None
        Epochs in place of those of the tasks; a small number gives a quick result.

    Returns
    -------
    list of Result

    Raises
    ------
    ValueError
        If there is no detector of a name, or `epochs` is below 1.
    ImportError
        If matplotlib is not installed.
    OSError
        If the folder cannot be created.
    """
    matplotlib_module("figure")  # raises before the fits if matplotlib is missing
    classes = select_detectors(detectors)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [make_task(seed) for make_task in TASKS]
    if epochs is not None:
        tasks = [replace(task, epochs=epochs) for task in tasks]
    _introduce(tasks)
    given = {} if epochs is None else {"epochs": epochs}
    methods = [make_methods(task, classes, seed, given) for task in tasks]
    defends = "AdversarialVAEDetector" in classes
    announced = announcer(n_fits=sum(map(len, methods)) + 2 * defends)
    results: list[Result] = []
    paths: list[Path] = []
    with _torch_ready():
        for task, methods_of_task in zip(tasks, methods, strict=True):
            outcomes = {}
            for name, method in methods_of_task.items():
                with announced(f"{task.name}: {name}"):
                    outcomes[name] = fit_and_judge(task, name, method)
                results.append(outcomes[name].result)
            paths += save_pictures(task, outcomes, folder)
        if defends:
            with announced("attacks on a classifier: AdversarialVAEDetector"):
                defences = attack_and_defend(seed, epochs)
            with announced("known anomalies: AdversarialVAEDetector"):
                known = with_and_without(seed, epochs)

    print(table(results), "", _FOOTNOTE, "", sep="\n")
    if defends:
        print(defence_table(defences), "", known_table(known), "", sep="\n")
    print(f"Figures and HTML reports in {folder.resolve()}:")
    print(*(f"  {path.name}" for path in paths), sep="\n")
    return results


def _introduce(tasks: Iterable[Task]) -> None:
    print(_INTRODUCTION)
    for task in tasks:
        print(textwrap.fill(task.describe(), 96, initial_indent="- ", subsequent_indent="  "))
    print(flush=True)  # so that it precedes the progress if both streams go to one file


@contextmanager
def _torch_ready() -> Iterator[None]:
    """Limit torch to one thread, and import its compiler so that fit times do not include this."""
    # The networks are too small to gain from threads. If other programs use the same cores,
    # threads wait for each other, and the fits take many times as long as with one thread.
    with limited_to(1):
        torch.optim.SGD([torch.zeros(1)])  # imports torch's compiler, which takes seconds
        yield


def announcer(n_fits: int) -> Callable[[str], AbstractContextManager[None]]:
    """Return a context manager that writes the running fit and the time to standard error."""
    start = time.perf_counter()
    numbers = itertools.count(1)

    @contextmanager
    def announced(what: str) -> Iterator[None]:
        print(f"[{next(numbers)}/{n_fits}] {what} ...", end=" ", file=sys.stderr, flush=True)
        yield
        print(f"done ({time.perf_counter() - start:.0f} s so far)", file=sys.stderr, flush=True)

    return announced
