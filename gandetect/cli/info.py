"""``gandetect info``: what a fitted detector is."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from gandetect.cli.options import add_classifier, given_classifier


def add_info(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info",
        help="say what a fitted detector is: data, parameters, training, threshold",
        description=(
            "Say what a saved detector was fitted to and how each column of a table is read, its "
            "parameters, its networks, how the training went and ended, where the threshold comes "
            "from, and with which versions it was fitted: what detector.summary() gives."
        ),
    )
    parser.add_argument("model", metavar="MODEL", help="file that gandetect fit wrote")
    add_classifier(parser)
    parser.add_argument("--json", action="store_true", help="write the same facts as JSON")
    parser.set_defaults(run=run_info)


def run_info(options: Namespace) -> None:
    """Load the detector, and write its summary."""
    from gandetect.loading import load

    facts = load(options.model, **given_classifier(options)).summary()
    print(json.dumps(facts, indent=1) if options.json else facts)
