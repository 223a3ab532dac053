"""``gandetect info``: the summary of a fitted detector."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from gandetect.cli.options import add_classifier, given_classifier


def add_info(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info",
        help="print the summary of a detector: data, parameters, training, threshold",
        description=(
            "Print the summary of a saved detector: its training data and the kinds of the columns "
            "of a table, its parameters, its networks, the training and the reason why it ended, "
            "the origin of the threshold, and the versions of the fit (detector.summary())."
        ),
    )
    parser.add_argument("model", metavar="MODEL", help="file of gandetect fit")
    add_classifier(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run_info)


def run_info(options: Namespace) -> None:
    """Load the detector and write its summary."""
    from gandetect.loading import load

    facts = load(options.model, **given_classifier(options)).summary()
    print(json.dumps(facts, indent=1) if options.json else facts)
