"""Measure the share of flagged normal rows at a target of 5 %, for each way to set a threshold.

    python benchmarks/thresholds.py --data DATA --detectors GANomaly --out thresholds.csv

The sets and splits are those of `quality.py`. False alarms are counted on one half of the normal
test rows; the other half is used by the rules that need held-out normal rows.
``contamination="auto"`` is measured on the first half as well, also with a tenth of anomalies in
the training rows (as in `contamination.py`, where half of the anomalies remain in the test set).
Flagging by the Benjamini-Hochberg procedure at 10 % uses the first half and all anomalies together;
its false alarms are measured as a share of the flagged rows.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from contamination import contaminated_split
from detectors import make_detector
from markdown_tables import markdown
from numpy.typing import NDArray
from protocols import load_split
from runs import Run, add_detectors, add_sets, grouped, mean_of, parser_of, rows_of, run_all

from gandetect.model.statistics import threshold_of_tail

NOMINAL = 0.05
FALSE_DISCOVERY_RATE = 0.1
VALIDATION_FRACTION = 0.2
RULES = (
    "contamination, training rows",
    "contamination, validation rows",
    "p_value, validation rows",
    "infer_threshold, kept rows",
    "p_value, kept rows",
    "flag_by_fdr, kept rows",
)
AUTO_RULES = (
    "contamination='auto', training rows",
    "contamination='auto', training rows with anomalies",
    "contamination, training rows with anomalies",
)
SHARE_OF_ANOMALIES = 0.1


@dataclass(kw_only=True)
class ThresholdRun(Run):
    """One run of one rule for the threshold."""

    KEY: ClassVar[tuple[str, ...]] = ("name", "detector", "seed", "rule")

    rule: str
    n_reference: int | None = None  # normal rows from which the rule sets the threshold
    false_alarm_rate: float | None = None  # for flag_by_fdr the share of flagged rows
    detection_rate: float | None = None


def measure(run: ThresholdRun, data: Path) -> Iterator[ThresholdRun]:
    """Measure all rules with two fits: on all training rows, and with rows held out."""
    split = load_split(data, "adbench", run.name, run.seed)
    X_normal, X_anomalous = split.X_test[split.y_test == 0], split.X_test[split.y_test == 1]
    kept, new = X_normal[::2], X_normal[1::2]

    def row(rule: str, n: int, normal: NDArray, anomalous: NDArray) -> ThresholdRun:
        return replace(
            run,
            rule=rule,
            n_reference=n,
            false_alarm_rate=round(float(np.mean(normal)), 6),
            detection_rate=round(float(np.mean(anomalous)), 6),
        )

    n_train = len(split.X_train)
    for fraction, rules in ((VALIDATION_FRACTION, RULES[1:3]), (0.0, RULES[:1])):
        detector = make_detector(
            run.detector,
            run.seed,
            standardise=True,
            contamination=NOMINAL,
            validation_fraction=fraction,
        ).fit(split.X_train)
        n = int(fraction * n_train) or n_train
        yield row(rules[0], n, detector.predict(new) == -1, detector.predict(X_anomalous) == -1)
        if fraction:
            p_values = detector.p_value(new), detector.p_value(X_anomalous)
            yield row(rules[1], n, *(p <= NOMINAL for p in p_values))

    n = len(kept)
    detector.infer_threshold(kept, outlier_perc=100 * NOMINAL).calibrate_p_values(kept)
    yield row(RULES[3], n, detector.predict(new) == -1, detector.predict(X_anomalous) == -1)
    p_values = detector.p_value(new), detector.p_value(X_anomalous)
    yield row(RULES[4], n, *(p <= NOMINAL for p in p_values))
    flagged = detector.flag_by_fdr(np.concatenate([new, X_anomalous]), FALSE_DISCOVERY_RATE)
    is_false = flagged[: len(new)]
    share = is_false.sum() / max(flagged.sum(), 1)
    yield row(RULES[5], n, np.array(share), flagged[len(new) :])


def measure_auto(run: ThresholdRun, data: Path) -> Iterator[ThresholdRun]:
    """Measure ``contamination="auto"`` with two fits: on normal rows, and with anomalies added."""
    for share, rules in ((0.0, AUTO_RULES[:1]), (SHARE_OF_ANOMALIES, AUTO_RULES[1:])):
        if share:
            split, _ = contaminated_split(data, run.name, share, run.seed)
        else:
            split = load_split(data, "adbench", run.name, run.seed)
        detector = make_detector(
            run.detector, run.seed, standardise=True, contamination=NOMINAL
        ).fit(split.X_train)
        scores = -detector.score_samples(split.X_test)
        thresholds = {
            AUTO_RULES[2]: detector.threshold_,
            AUTO_RULES[share > 0]: threshold_of_tail(-detector.score_samples(split.X_train)),
        }
        for rule in rules:
            is_flagged = scores > thresholds[rule]
            yield replace(
                run,
                rule=rule,
                n_reference=len(split.X_train),
                false_alarm_rate=round(float(is_flagged[split.y_test == 0][1::2].mean()), 6),
                detection_rate=round(float(is_flagged[split.y_test == 1].mean()), 6),
            )


def report(path: Path) -> str:
    """Return a table of the means over the sets for every rule."""
    lines = [
        [detector, rule, mean_of(rows, "false_alarm_rate"), mean_of(rows, "detection_rate")]
        for (detector, rule), rows in grouped(
            rows_of(path, ThresholdRun), ["detector", "rule"]
        ).items()
    ]
    return markdown(["detector", "rule", "false alarms", "anomalies found"], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = parser_of(__doc__)
    add_detectors(parser)
    add_sets(parser)
    args = parser.parse_args(argv)
    planned = [
        ThresholdRun(name=name, detector=detector, seed=seed, rule=rule)
        for name, seed, detector, rule in itertools.product(
            args.sets, args.seeds, args.detectors, (*RULES, *AUTO_RULES)
        )
    ]
    went_well = run_all(
        planned,
        args,
        lambda run: (measure_auto if run.rule in AUTO_RULES else measure)(run, args.data),
    )
    print(report(args.out))
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
