"""``gandetect report``: an HTML page about the scores of data."""

from __future__ import annotations

import warnings
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from gandetect.cli.options import UsageError, add_data, add_model, add_protocol, number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gandetect.cli.data import Samples


def add_report(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="write an HTML report on scored data, with curves and the most anomalous samples",
        description=(
            "Write one HTML file without external files: the summary of the detector, "
            "training diagnostics, the scores with the threshold, ROC and precision-recall curves "
            "if there are labels, and the samples with the largest scores, with their anomaly maps "
            "or most anomalous columns. False alarms can be marked in it, and the marks exported "
            "as CSV for fit --label-file."
        ),
    )
    add_model(parser)
    add_data(parser)
    add_protocol(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--out", required=True, metavar="FILE", help="the HTML file (.html)")
    group.add_argument(
        "--largest",
        type=number(int, 1, 500),
        default=50,
        metavar="N",
        help="number of samples with the largest scores to show (default: 50)",
    )
    parser.set_defaults(run=run_report)


def run_report(options: Namespace) -> None:
    """Score the samples and write the page."""
    from pathlib import Path

    from gandetect.cli.output import check_file
    from gandetect.cli.score import model_and_samples
    from gandetect.reporting import write_report

    out = Path(options.out).expanduser()
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {options.out} does not end with .html")
    check_file(options)
    detector, samples = model_and_samples(options)
    about = {"model": Path(options.model).name, "data": options.data}
    write_report(
        detector,
        samples.named,
        out,
        _labels(samples, options),
        names=samples.names,
        n_largest=options.largest,
        about=about,
    )


def _labels(samples: Samples, options: Namespace) -> NDArray[np.bool_] | None:
    """Return which samples are anomalies, or None without labels, which are optional."""
    from gandetect.cli.data import anomalies

    if samples.labels is None:
        return None
    try:
        return anomalies(samples, options)
    except UsageError as error:
        if options.anomalous_class or options.normal_class:
            raise
        warnings.warn(f"the report is written without labels: {error}", stacklevel=2)
        return None
