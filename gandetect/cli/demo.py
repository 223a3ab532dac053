"""``gandetect demo``: every detector on data that scikit-learn includes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from gandetect.cli.options import add_seed, detector_names, number


def add_demo(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="fit every detector to real data, print a table, save figures",
        description=(
            "Fit every detector to data that scikit-learn includes (a table with strings and "
            "missing values, digits, photographs with defects, an attacked classifier), infer "
            "thresholds and predict; print one table with two baselines, and save figures and a "
            "report for each task. It takes a minute or two."
        ),
    )
    parser.add_argument(
        "--out",
        default="demo-output",
        metavar="DIR",
        help="folder for figures and reports (default: demo-output)",
    )
    add_seed(parser)
    parser.add_argument(
        "--detectors",
        type=detector_names,
        metavar="A,B",
        help="only these detectors, such as ganomaly (default: all)",
    )
    parser.add_argument(
        "--epochs",
        type=number(int, 1),
        metavar="N",
        help="epochs of every fit, for a faster demo (default: 2 to 100, by task)",
    )
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> None:
    from gandetect.demo import run_demo

    detectors = None if options.detectors is None else list(options.detectors)
    run_demo(options.out, seed=options.seed, detectors=detectors, epochs=options.epochs)
