"""A report on scored data: one HTML file without external resources."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from gandetect.archive import check_writable, written_aside
from gandetect.base import BaseDetector
from gandetect.data.labels import anomalous
from gandetect.datasets.splits import take
from gandetect.plotting.reconstruction import outline_level
from gandetect.plotting.style import matplotlib_module
from gandetect.reporting.explanations import unusual_columns
from gandetect.reporting.pictures import (
    Photographs,
    curves_svg,
    histogram_svg,
    history_svg,
)
from gandetect.summary import shown

# Limits: columns shown for each row, characters of a cell, and rows of a list of columns.
_N_COLUMNS, _LONGEST_CELL, _MOST_LINES = 3, 200, 200
# The number of samples that are not flagged whose maps determine the level of the outlines.
_N_USUAL = 32
# With more samples the page would be too large to read.
_MOST_SAMPLES = 500


def write_report(
    detector: BaseDetector,
    X: Any,
    path: str | os.PathLike[str],
    y: ArrayLike | None = None,
    *,
    names: Sequence[Any] | None = None,
    n_largest: int = 50,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a report on samples scored by a fitted detector as one HTML file.

    The file shows the scores and the threshold, ROC and precision-recall curves if there are
    labels, the samples with the largest scores and the features that raise them, the training
    diagnostics, the fitted detector and its training data, and the versions. It loads no external
    resources, and all content from the data is escaped as text. Samples can be marked as false
    alarms or as anomalies, and the marks can be exported as CSV, which
    ``gandetect fit --label-file`` reads.

    Parameters
    ----------
    detector : BaseDetector
    X : array-like, table, ImageFolder or ImageFiles
        The samples, as in `fit`, but not the path of a file or a folder.
    path : str or path
        The file to write. The write is atomic.
    y : array-like of shape (n_samples,) or None, default=None
        0 for normal and 1 for anomalous, 1 for normal and -1 for anomalous, or booleans, True for
        anomalous.
    names : sequence of length n_samples or None, default=None
        The names of the samples. None takes the paths of image files, otherwise numbers from 0.
    n_largest : int, default=50
        How many samples to show: those with the largest scores. At most 500; each image takes about
        20 kB.
    about : mapping of str to str or None, default=None
        Further lines at the top, such as the names of the model and the data.

    Raises
    ------
    TypeError, ValueError
        If X cannot be scored, the score was changed after the threshold was set, there is not one
        label and one name for each sample, or `n_largest` is not from 1 to 500.
    ImportError
        Without matplotlib: ``pip install "gandetect[plot]"``.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from gandetect import GANomalyDetector
    >>> from gandetect.reporting import write_report
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> detector = GANomalyDetector(epochs=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(detector, X, Path(folder, "report.html"), n_largest=10)
    ...     Path(folder, "report.html").read_text(encoding="utf-8").count("data-rank=") // 2
    10
    """
    matplotlib_module("figure")  # raises before scoring if matplotlib is missing
    if not isinstance(detector, BaseDetector):
        raise TypeError(f"detector must be a fitted detector, got {type(detector).__name__}.")
    if isinstance(X, str | os.PathLike):
        raise TypeError("X must be samples, not a path: gandetect report reads files and folders.")
    if isinstance(n_largest, bool) or not isinstance(n_largest, int):
        raise TypeError(f"n_largest must be an integer, got {n_largest!r}.")
    if not 1 <= n_largest <= _MOST_SAMPLES:
        raise ValueError(f"n_largest must be from 1 to {_MOST_SAMPLES}, got {n_largest}.")
    check_writable(path)
    scores = detector.anomaly_score(X)
    model = detector.model_
    model.check_threshold()
    is_flagged = model.label(torch.from_numpy(scores)).numpy() < 0
    is_anomaly = None if y is None else anomalous(y)
    called = getattr(X, "paths", range(len(scores))) if names is None else names
    for what, values in (("y", is_anomaly), ("names", called)):
        if values is not None and len(values) != len(scores):
            raise ValueError(f"{what} has {len(values)} entries for {len(scores)} samples.")
    order = np.argsort(-scores, kind="stable")[:n_largest]
    page = Page(detector, X, scores, is_flagged, is_anomaly, called, order, about or {})
    content = page.html().encode("utf-8")
    with written_aside(path) as file:
        file.write(content)


class Page:
    """The parts of the HTML page."""

    def __init__(
        self,
        detector: BaseDetector,
        X: Any,
        scores: NDArray[np.float64],
        is_flagged: NDArray[np.bool_],
        is_anomaly: NDArray[np.bool_] | None,
        names: Sequence[Any],
        order: NDArray[np.intp],
        about: Mapping[str, str],
    ) -> None:
        self.detector, self.X, self.about = detector, X, about
        self.scores, self.is_flagged, self.is_anomaly = scores, is_flagged, is_anomaly
        self.names, self.order = names, order
        self.facts = detector.summary()

    def html(self) -> str:
        """Return the HTML text of the page."""
        folder = files("gandetect.reporting")
        page, style, script = (
            folder.joinpath(f"page.{kind}").read_text(encoding="utf-8")
            for kind in ("html", "css", "js")
        )
        return Template(page).substitute(
            title=_escaped(f"Anomaly report: {self.facts['detector']}"),
            policy=_policy(script),
            style=style,
            script=script,
            lead=self._lead(),
            scores=self._scores(),
            largest=self._largest(),
            training=self._training(),
            fitted=self._fitted(),
            versions=_facts(self.facts["versions"]),
        )

    def _lead(self) -> str:
        n, n_flagged = len(self.scores), int(self.is_flagged.sum())
        numbers = {
            "samples": str(n),
            "flagged": f"{n_flagged} ({n_flagged / n:.1%})",
            "threshold": f"{self.detector.threshold_:.4g}",
        }
        if self.is_anomaly is not None:
            n_anomalies = int(self.is_anomaly.sum())
            numbers["labelled as anomalies"] = str(n_anomalies)
            n_false = int((self.is_flagged & ~self.is_anomaly).sum())
            numbers["false alarms"] = f"{n_false} of {n - n_anomalies}"
            numbers["anomalies found"] = f"{n_flagged - n_false} of {n_anomalies}"
        if self._has_both_kinds():
            numbers["AUROC"] = f"{roc_auc_score(self.is_anomaly, self.scores):.4f}"
            precision = average_precision_score(self.is_anomaly, self.scores)
            numbers["average precision"] = f"{precision:.4f}"
        entries = "".join(
            f"<div><dt>{_escaped(name)}</dt><dd>{_escaped(value)}</dd></div>"
            for name, value in numbers.items()
        )
        return f'{_facts(self.about)}<dl class="numbers">{entries}</dl>'

    def _has_both_kinds(self) -> bool:
        return self.is_anomaly is not None and len(set(self.is_anomaly.tolist())) == 2

    def _scores(self) -> str:
        threshold = self.detector.threshold_
        kinds = self.is_anomaly if self._has_both_kinds() else None
        figures = [
            _figure(
                histogram_svg(self.scores, threshold, kinds),
                f"Histogram of the anomaly scores of {len(self.scores)} samples, with the "
                f"threshold at {threshold:.4g}",
                "Larger scores are more anomalous. Samples to the right of the dashed line are "
                "flagged.",
            )
        ]
        if kinds is not None:
            curves = curves_svg(self.scores, threshold, kinds, self.facts["detector"])
            figures += [
                _figure(
                    curves["roc"],
                    "ROC curve, with the point of the threshold",
                    "Share of the anomalies found, over the false-alarm rate.",
                ),
                _figure(
                    curves["precision-recall"],
                    "Precision-recall curve, with the point of the threshold",
                    "Share of the flagged samples that are anomalies, over the share of the "
                    "anomalies that is found.",
                ),
            ]
        origin = {name: v for name, v in self.facts["threshold"].items() if name != "value"}
        how = f"<h3>Origin of the threshold</h3>{_facts(origin)}" if origin else ""
        return f'<div class="figures">{"".join(figures)}</div>{how}'

    def _largest(self) -> str:
        chosen = take(self.X, self.order)
        p_values = None
        if self.detector.model_.normal_scores is not None:
            p_values = self.detector.p_value(chosen)
        is_image = self.detector.model_.layout.is_image
        whys = self._pictures() if is_image else self._cells(chosen)
        heads = [("#", "number"), ("Sample", ""), ("Score", "number")]
        heads += [("p-value", "number")] if p_values is not None else []
        heads += [("Verdict", "")]
        heads += [("Label", "")] if self.is_anomaly is not None else []
        heads += [("Mark", ""), ("Where" if is_image else "Unusual columns", "")]
        names = [head for head, _ in heads]
        rows = []
        for place, (row, why) in enumerate(zip(self.order, whys, strict=True)):
            name, score = _name(self.names[row]), float(self.scores[row])
            verdict = "flagged" if self.is_flagged[row] else "passed"
            cells: dict[str, tuple[float | str | None, str]] = {
                "#": (place + 1, str(place + 1)),
                "Sample": (name, _escaped(name)),
                "Score": (score, f"{score:.4g}"),
                "Verdict": (verdict, f'<span class="{verdict}">{verdict}</span>'),
                "Mark": ("", _mark(name, place)),
                names[-1]: (None, why),
            }
            if p_values is not None:
                cells["p-value"] = (float(p_values[place]), f"{p_values[place]:.3g}")
            if self.is_anomaly is not None:
                label = "anomalous" if self.is_anomaly[row] else "normal"
                cells["Label"] = (label, label)
            line = "".join(_cell(head, kind, *cells[head]) for head, kind in heads)
            rows.append(f'<tr role="row" data-rank="{place + 1}">{line}</tr>')
        head = "".join(
            f'<th scope="col" role="columnheader" class="{kind}">'
            + (f'<button type="button">{text}</button>' if text != names[-1] else text)
            + "</th>"
            for text, kind in heads
        )
        n = len(self.order)
        what = (
            "all samples"
            if n == len(self.scores)
            else (f"the {n} largest scores of {len(self.scores)} samples")
        )
        return (
            f"<p>The table shows {what}, sorted by score. Click on the heading of a column to sort "
            "by it. Mark false alarms and anomalies: the exported file has one line for each "
            "marked sample, with the label 0 for normal and 1 for anomalous. To train with these "
            "labels, use <code>gandetect fit --labels learn --label-file marks.csv</code>.</p>"
            f"{self._what_the_pictures_show() if is_image else ''}"
            '<div class="actions"><button type="button" id="export">Export marks as CSV</button>'
            '<span id="status" role="status"></span></div>'
            '<div class="scroll" tabindex="0" role="region" aria-label="Table of samples">'
            '<table id="samples" role="table"><thead role="rowgroup">'
            f'<tr role="row">{head}</tr></thead>'
            f'<tbody role="rowgroup">{"".join(rows)}</tbody></table></div>'
        )

    def _cells(self, chosen: Any) -> Iterable[str]:
        """Return for each chosen row a table cell with its most unusual columns."""
        for columns in unusual_columns(self.detector, chosen, _N_COLUMNS):
            lines = "".join(
                f'<tr><th scope="row">{_cut(column)}</th><td>{_cut(value) or "missing"}</td>'
                f"<td>{_cut(expected) or 'missing'}</td></tr>"
                for column, value, expected in columns
            )
            yield (
                '<table class="cells"><thead><tr><th scope="col">column</th><th scope="col">value'
                f'</th><th scope="col">expected</th></tr></thead><tbody>{lines}</tbody></table>'
            )

    def _pictures(self) -> Iterable[str]:
        """Return for each shown image the photograph, and the map over the photograph."""
        passed = np.flatnonzero(~self.is_flagged)
        usual = passed[np.linspace(0, len(passed) - 1, min(_N_USUAL, len(passed))).astype(np.intp)]
        maps = [self._map(row) for row in self.order]
        level = outline_level([self._map(row) for row in usual] or maps)
        photographs = Photographs([self._image(row) for row in self.order], maps, level)
        for place, row in enumerate(self.order):
            name = _escaped(_name(self.names[row]))
            photograph, overlay = photographs.pair(place)
            alt = f"Heat map of {name}, score {self.scores[row]:.4g}"
            yield (
                f'<div class="pictures"><img src="{photograph}" alt="{name}">'
                f'<img src="{overlay}" alt="{alt}"></div>'
            )

    @staticmethod
    def _what_the_pictures_show() -> str:
        return (
            "<p>The right image of each pair shows the anomaly map over the image, from dark "
            "purple (small) to yellow (large) with one scale for all images. The outline encloses "
            f"the pixels above the largest map value of up to {_N_USUAL} images that were not "
            "flagged.</p>"
        )

    def _map(self, row: int) -> NDArray[Any]:
        """Return the anomaly map of one image, because images may differ in size."""
        return np.asarray(self.detector.anomaly_map(take(self.X, np.array([row])))[0])

    def _image(self, row: int) -> Any:
        """Return the path of an image, or its values with the channels last."""
        if hasattr(self.X, "paths"):
            return self.X.paths[row]
        layout = self.detector.model_.layout
        image = np.asarray(take(self.X, np.array([row]))[0])
        image = image.reshape(layout.input_shape)
        is_first = image.ndim == 3 and not layout.has_channels_last
        return np.moveaxis(image, 0, -1) if is_first else image

    def _training(self) -> str:
        training = dict(self.facts["training"])
        problems, diagnostics = training.pop("problems"), training.pop("diagnostics")
        told = "".join(
            f'<p class="problem"><strong>{_escaped(name)}</strong>: {_escaped(text)}</p>'
            for name, text in problems.items()
        )
        told = told or "<p>The diagnostics found no problem in the training.</p>"
        history = self.detector.history_
        figure = ""
        if history:
            figure = _figure(
                history_svg(history),
                f"Losses over {len(history)} epochs",
                "The mean of each loss in each epoch.",
            )
        return (
            f"{told}{_facts(training)}{figure}<details><summary>Values of the "
            f"diagnostics</summary>{_facts(diagnostics)}</details>"
        )

    def _fitted(self) -> str:
        parts = {name: self.facts[name] for name in ("fitted_to", "networks", "score")}
        parameters = _facts(self.facts["parameters"])
        return (
            f"{_facts({'detector': self.facts['detector'], **parts})}"
            f"<details><summary>Parameters</summary>{parameters}</details>"
        )


def _facts(facts: Mapping[str, Any]) -> str:
    """Return names and values as an HTML definition list, and records as an HTML table."""
    entries = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            told = _facts(value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            told = _records(value)
        elif isinstance(value, list) and len(value) > _MOST_LINES:
            told = f"{_escaped(shown(value[:_MOST_LINES]))} and {len(value) - _MOST_LINES} more"
        else:
            told = _escaped(shown(value))
        entries.append(f"<dt>{_escaped(name)}</dt><dd>{told}</dd>")
    return f'<dl class="facts">{"".join(entries)}</dl>' if entries else ""


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f'<th scope="col">{_escaped(name)}</th>' for name in records[0])
    lines = "".join(
        "<tr>" + "".join(f"<td>{_cut(shown(value))}</td>" for value in record.values()) + "</tr>"
        for record in records[:_MOST_LINES]
    )
    n_more = len(records) - _MOST_LINES
    more = f"<p>and {n_more} more</p>" if n_more > 0 else ""
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Columns"><table class="cells">'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>{more}"
    )


def _figure(svg: str, alt: str, caption: str) -> str:
    named = svg.replace("<svg", f'<svg role="img" aria-label="{_escaped(alt)}"', 1)
    return f'<figure class="plot">{named}<figcaption>{_escaped(caption)}</figcaption></figure>'


def _cell(head: str, kind: str, key: float | str | None, html: str) -> str:
    """Return a cell of the table of samples, with its sort key."""
    by = "" if key is None else f' data-sort="{_escaped(str(key))}"'
    if head == "Sample":
        return f'<th scope="row" role="rowheader" class="name"{by}>{html}</th>'
    return f'<td role="cell" class="{kind}" data-head="{head}"{by}>{html}</td>'


def _mark(name: str, place: int) -> str:
    options = (("", "none"), ("0", "false alarm"), ("1", "anomaly"))
    choices = "".join(f'<option value="{value}">{text}</option>' for value, text in options)
    return (
        f'<select data-rank="{place}" data-sample="{_escaped(name)}" '
        f'aria-label="Mark of {_escaped(name)}">{choices}</select>'
    )


def _name(name: Any) -> str:
    """Return the name of a sample; the name of a file may contain undecodable bytes."""
    return str(name).encode(errors="backslashreplace").decode()


def _cut(text: str) -> str:
    """Return the text of a cell, escaped and limited in length."""
    return _escaped(text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]} ...")


def _escaped(text: str) -> str:
    return escape(text.encode(errors="backslashreplace").decode(), quote=True)


def _policy(script: str) -> str:
    """Return the content security policy: inline content only, and one script by its digest."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    sources = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"{sources}; script-src 'sha256-{digest}'"
