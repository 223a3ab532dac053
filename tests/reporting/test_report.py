import csv
import itertools
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gandetect.datasets import ImageFolder
from gandetect.reporting import write_report
from tests.browser import opened_browser
from tests.reporting.conftest import EVIL

_EMPTY = {"meta", "img", "br", "link", "input"}


class Elements(HTMLParser):
    """The elements of a page, and whether they are closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _EMPTY:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(of_table, table, tmp_path_factory):
    """A report on a table with labels, in which names and cells are scripts."""
    X, y = table
    path = tmp_path_factory.mktemp("report") / "report.html"
    names = [f"=row {i}, {EVIL}" for i in range(len(X))]
    write_report(of_table, X, path, y, names=names, n_largest=12, about={"data": EVIL})
    return path


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(text):
    return Elements(text)


def test_it_shows_the_samples_with_the_largest_scores(of_table, table, text, elements):
    X, _ = table
    rows = [attributes for attributes in elements.of("tr") if "data-rank" in attributes]
    assert len(rows) == 12
    order = np.argsort(-of_table.anomaly_score(X), kind="stable")[:12]
    samples = [attributes["data-sample"] for attributes in elements.of("select")]
    assert samples == [f"=row {i}, {EVIL}" for i in order]
    assert set(order[:10]) == set(range(110, 120))
    scores = [float(a["data-sort"]) for a in elements.of("td") if a.get("data-head") == "Score"]
    np.testing.assert_allclose(scores, of_table.anomaly_score(X)[order], atol=1e-5)
    p_values = [float(a["data-sort"]) for a in elements.of("td") if a.get("data-head") == "p-value"]
    np.testing.assert_array_equal(p_values, of_table.p_value(X.iloc[order]))


def test_it_says_what_the_summary_says(of_table, text):
    facts = of_table.summary()
    for name, value in facts["parameters"].items():
        assert f"<dt>{name}</dt>" in text, value
    assert "<dt>rule</dt><dd>contamination</dd>" in text
    assert f"<dd>{facts['versions']['here']['torch']}</dd>" in text
    assert f"<dd>{facts['training']['stop_reason']}</dd>" in text
    assert "The diagnostics found no problem in the training." in text
    assert text.count("<svg") == 4  # losses, histogram, ROC, precision-recall


def test_what_comes_from_the_data_is_text(text, elements):
    assert EVIL not in text
    assert text.count("<script") == 1
    assert not [
        name for _, attributes in elements.found for name in attributes if name.startswith("on")
    ]


def test_nothing_is_loaded_from_elsewhere(text, elements):
    for _, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/")), value
    addresses = set(re.findall(r"https?://[^\"' <>)]*", text))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    (policy,) = [a["content"] for a in elements.of("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'")
    assert "sha256-" in policy


def test_it_can_be_read_with_a_screen_reader(elements):
    assert elements.of("html") == [{"lang": "en"}]
    heads = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert heads[0] == 1
    assert heads.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(heads))
    assert all(a.get("aria-label") and a["role"] == "img" for a in elements.of("svg"))
    assert all(a["alt"] for a in elements.of("img"))
    assert all(a["aria-label"] for a in elements.of("select"))
    assert all(a.get("scope") for a in elements.of("th"))
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_call_writes_the_same_bytes(of_table, table, tmp_path):
    for name in ("one", "two"):
        write_report(of_table, table[0], tmp_path / name, n_largest=3)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_without_labels_there_are_no_curves_of_them(of_table, table, tmp_path):
    write_report(of_table, table[0], tmp_path / "report.html", n_largest=3)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert "AUROC" not in text
    assert 'data-head="Label"' not in text


def test_labels_of_one_kind_are_shown(of_table, table, tmp_path):
    write_report(of_table, table[0], tmp_path / "report.html", np.zeros(120), n_largest=3)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert 'data-head="Label"' in text


def test_images_have_their_maps(of_images, images, tmp_path):
    write_report(of_images, images, tmp_path / "report.html", n_largest=4)
    elements = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
    alts = [attributes["alt"] for attributes in elements.of("img")]
    assert len(alts) == 8
    assert sum(alt.startswith("Heat map of ") for alt in alts) == 4
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_image_files_go_by_their_names(of_images, images, tmp_path):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02d}<b>.png")
    write_report(of_images, ImageFolder(tmp_path / "images"), tmp_path / "r.html", n_largest=2)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("&lt;b&gt;.png") > 2
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("error", "what", "options"),
    [
        (ValueError, "y has 3 entries for 120 samples", {"y": [0, 1, 0]}),
        (ValueError, "names has 1 entries", {"names": ["a"]}),
        (ValueError, "n_largest must be from 1 to 500", {"n_largest": 0}),
        (TypeError, "n_largest must be an integer", {"n_largest": 2.5}),
        (TypeError, "not a path", {"X": "rows.csv"}),
    ],
)
def test_what_cannot_be_reported_on(of_table, table, tmp_path, error, what, options):
    options = {"X": table[0], **options}
    with pytest.raises(error, match=what):
        write_report(of_table, path=tmp_path / "report.html", **options)
    assert not (tmp_path / "report.html").exists()


def test_what_is_no_detector(table, tmp_path):
    for other in (None, "m.model", object()):
        with pytest.raises(TypeError, match="detector must be a fitted detector, got"):
            write_report(other, table[0], tmp_path / "report.html")


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    of_table, table, tmp_path, monkeypatch
):
    monkeypatch.setattr(type(of_table), "anomaly_score", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(FileNotFoundError, match=r"Cannot write .*there is no such folder"):
        write_report(of_table, table[0], tmp_path / "none" / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened_browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


class TestInABrowser:
    @pytest.fixture
    def shown(self, browser, page):
        browser.open(page, 1400)
        return browser

    def column(self, browser, name):
        return browser.value(
            f"[...document.querySelectorAll('#samples td[data-head=\"{name}\"]')]"
            ".map(cell => cell.dataset.sort)"
        )

    def click_head(self, browser, name):
        browser.value(
            "[...document.querySelectorAll('#samples thead button')]"
            f".find(button => button.textContent === '{name}').click()"
        )

    @pytest.mark.parametrize("width", [390, 1400])
    def test_it_fits_and_raises_nothing(self, browser, page, width):
        browser.open(page, width)
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value("document.title") == "Anomaly report: GANomalyDetector"
        assert list(browser.errors()) == []

    def test_a_head_sorts_and_turns_round(self, shown):
        ranks = self.column(shown, "#")
        assert ranks == [str(i) for i in range(1, 13)]
        self.click_head(shown, "Score")
        assert self.column(shown, "#") == ranks
        self.click_head(shown, "Score")
        assert self.column(shown, "#") == ranks[::-1]
        assert shown.value("document.querySelectorAll('[aria-sort]').length") == 1
        assert shown.value("document.querySelector('[aria-sort]').ariaSort") == "ascending"
        self.click_head(shown, "Verdict")
        verdicts = self.column(shown, "Verdict")
        assert verdicts == sorted(verdicts)

    def test_marks_are_exported(self, shown, tmp_path):
        where = {"behavior": "allow", "downloadPath": str(tmp_path)}
        session, shown.session = shown.session, None
        shown.ask("Browser.setDownloadBehavior", **where)
        shown.session = session
        shown.value("document.getElementById('export').click()")
        assert shown.value("document.getElementById('status').textContent") == (
            "No sample is marked."
        )
        names = shown.value(
            "[1, 0].map(i => { const select = document.querySelectorAll('#samples select')[i];"
            "select.value = String(i); select.dispatchEvent(new Event('change', {bubbles: true}));"
            "return select.dataset.sample; })"
        )
        shown.value("document.getElementById('export').click()")
        deadline = time.monotonic() + 20
        while not (tmp_path / "marks.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with (tmp_path / "marks.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        # Harmless in a spreadsheet, as all that the commands write.
        assert lines == [["sample", "label"], [f"'{names[1]}", "0"], [f"'{names[0]}", "1"]]
        assert list(shown.errors()) == []
