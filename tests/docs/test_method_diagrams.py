"""The diagrams of the methods, and the pages of the guide that show them."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from gandetect import detectors
from gandetect.networks import MLP

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("adversarial_vae", "alocc", "bigan", "ganomaly", "rdna")
SECTIONS = (
    "What it does",
    "When to use it",
    "How to use it",
    "Parameters to tune",
    "The score",
    "Published and measured",
)


@pytest.fixture(scope="module")
def extension():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        import method_diagrams

        yield method_diagrams


@pytest.fixture(scope="module", params=METHODS)
def diagram(extension, request):
    drawn = extension.DIAGRAMS[request.param]()
    drawn.figure.draw_without_rendering()
    return drawn


def extent(label):
    """Left, top, right and bottom of a text, in the diagram's pixels."""
    box = label.get_window_extent()
    height = label.figure.bbox.height
    return box.x0, height - box.y1, box.x1, height - box.y0


def overlap(one, other, margin=0.0):
    return (
        one[0] < other[2] - margin
        and other[0] < one[2] - margin
        and one[1] < other[3] - margin
        and other[1] < one[3] - margin
    )


def segments(diagram):
    """The straight pieces of all lines, as boxes without width or height."""
    for line in diagram.lines:
        for (x, y), (to_x, to_y) in itertools.pairwise(line):
            yield min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y)


def test_words_stay_in_their_boxes(diagram):
    for name, label in diagram.labels.items():
        left, top, right, bottom = extent(label)
        box = diagram.boxes[name]
        assert box[0] + 2 < left and right < box[2] - 2, f"{name} is too narrow"
        assert box[1] < top and bottom < box[3], f"{name} is too low"


def test_nothing_lies_upon_anything_else_or_beyond_the_page(diagram):
    things = [*diagram.boxes.values(), *map(extent, diagram.notes)]
    for one, other in itertools.combinations(things, 2):
        assert not overlap(one, other, margin=1), (one, other)
    for left, top, right, bottom in things:
        assert left > 0 and top > 0 and right < 760 and bottom < diagram.height


def test_lines_are_straight_and_go_from_edge_to_edge_through_no_box(diagram):
    for line in diagram.lines:
        for (x, y), (to_x, to_y) in itertools.pairwise(line):
            assert (x == to_x) != (y == to_y), line
    for piece in segments(diagram):
        for name, box in diagram.boxes.items():
            assert not overlap(piece, box), f"a line goes through {name}"
        for note in diagram.notes:
            assert not overlap(piece, extent(note)), f"a line goes through {note.get_text()!r}"


@pytest.mark.parametrize("method", METHODS)
def test_networks_have_the_names_that_the_detector_gives_them(extension, method):
    drawn = extension.DIAGRAMS[method]()
    words = " ".join(label.get_text() for label in drawn.labels.values())
    (Detector,) = (
        getattr(detectors, name)
        for name in detectors.__all__
        if name.lower() == f"{method.replace('_', '')}detector"
    )
    detector = Detector(n_estimators=1, latent_dim=2, architecture=MLP(hidden_dims=(4,)), epochs=1)
    if method == "bigan":
        detector.set_params(variant="alad")
    if method == "alocc":
        detector.set_params(tuning_fraction=0.3)
    detector.fit([[0.0, 1.0], [1.0, 0.0], [0.5, 0.2], [0.1, 0.9]])
    assert [name for name in detector.networks_ if name not in words] == []


def test_files_are_written_before_the_pages_are_read_and_the_same_each_time(extension, tmp_path):
    connected = {}
    extension.setup(SimpleNamespace(connect=connected.__setitem__))
    write = connected["builder-inited"]
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(SimpleNamespace(srcdir=tmp_path / folder))
    for method in METHODS:
        one, two = (tmp_path / f / "generated/diagrams" / f"{method}.svg" for f in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert b"<svg" in one.read_bytes()[:1000]


@pytest.mark.parametrize("method", METHODS)
def test_each_page_has_what_a_page_of_a_method_needs(method):
    page = (ROOT / "docs" / "guide" / f"{method}.md").read_text(encoding="utf-8")
    heads = [line.removeprefix("## ") for line in page.split("\n") if line.startswith("## ")]
    assert [section for section in SECTIONS if section not in heads] == []
    assert f"```{{image}} /generated/diagrams/{method}.svg\n:alt: " in page
