"""The benchmark of defects: its baselines, what a run holds, resuming."""

import json
from dataclasses import asdict, replace

import industrial
import numpy as np
import pytest
import torch
from PIL import Image
from results_file import Results
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch
from torch import nn
from torch.nn import functional as F

from gandetect import RDNADetector
from gandetect.archive import read_archive
from gandetect.datasets import load_mvtec
from gandetect.networks.backbone import Backbone
from tests.helpers import needs_callbacks


@pytest.fixture(scope="module")
def category():
    """Soft stripes of any phase; a third of the tested ones has a bright square."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, size=(60, 1, 1))
    images = 100 + 50 * np.sin(np.arange(16) / 2 + phase) * np.ones((60, 16, 1))
    masks = np.zeros((60, 16, 16), dtype=bool)
    masks[50:, 4:8, 6:10] = True
    images[masks] = 250
    images, labels = images.astype(np.uint8), masks.any(axis=(1, 2)).astype(int)
    halves = (slice(0, 30), slice(30, 60))
    return [Bunch(images=images[s], masks=masks[s], labels=labels[s]) for s in halves]


def row(method, **parameters):
    params = {"preset": "laptop", **parameters} if method == "RDNA" else {}
    return industrial.Row(
        category="stripes",
        method=method,
        params=json.dumps(params),
        resolution=16,
        seed=0,
        threads=1,
    )


def test_the_autoencoder_is_one(category):
    method = industrial.ErrorMaps("autoencoder", seed=0)
    method.estimator.set_params(max_iter=1)
    with pytest.warns(ConvergenceWarning):
        method.fit(category[0].images)
    assert method.estimator.hidden_layer_sizes == (256, 32, 256)
    assert method.anomaly_map(category[1].images).shape == (30, 16, 16)


@pytest.mark.parametrize("method", ["PCA", "autoencoder"])
def test_error_maps_find_a_square(category, method, monkeypatch):
    monkeypatch.setattr(industrial, "BASELINE_SIZE", 16)
    found = row(method)
    if method == "autoencoder":
        monkeypatch.setattr(industrial, "MLPRegressor", lambda **_: industrial.PCA(3))
    industrial.measure(found, *category)
    assert found.image_auroc > 0.9
    assert found.pixel_auroc > 0.9
    assert found.n_train == found.n_test == 30


@needs_callbacks
def test_a_run_of_rdna_can_be_taken_up_again(category, tmp_path):
    first, again = (row("RDNA", epochs=2, batch_size=16) for _ in "12")
    industrial.measure(first, *category, tmp_path)
    (checkpoint,) = tmp_path.iterdir()
    written = read_archive(checkpoint)["run"]
    industrial.measure(again, *category, tmp_path)
    resumed = read_archive(checkpoint)["run"]
    assert resumed["history"] == written["history"]
    assert all(map(torch.equal, resumed["networks"].values(), written["networks"].values()))
    assert first.epochs == again.epochs == 2
    assert first.pixel_ap == again.pixel_ap
    assert first.stop_reason == "all epochs done"


def test_options_become_parameters_of_the_detector():
    arguments = ["--data=d", "--out=o", "--categories=a,b", "--seeds=0,1", "--preset=gpu"]
    arguments += ["--adversarial-weight=0", "--image-size=32", "--max-time=60"]
    args = industrial.parse_arguments([*arguments, "--set=batch_size=4"])
    rows = list(industrial.planned_rows(args))
    assert len(rows) == 2 * 2 * 3
    detector = industrial.make_method(rows[0], None)
    assert isinstance(detector, RDNADetector)
    assert detector.adversarial_weight == 0
    assert (detector.image_size, detector.max_time, detector.batch_size) == (32, 60, 4)
    assert detector.mixed_precision


def test_a_backbone_takes_the_place_of_a_preset():
    arguments = ["--data=d", "--out=o", "--categories=a", "--methods=RDNA"]
    args = industrial.parse_arguments([*arguments, "--backbone=efficientnet-lite0"])
    (planned,) = industrial.planned_rows(args)
    assert json.loads(planned.params) == {"backbone": "efficientnet-lite0"}
    detector = industrial.make_method(planned, None)
    assert detector.backbone == "efficientnet-lite0"
    assert detector.random_state == 0


class Averages(nn.Module):
    def forward(self, x):
        return [F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("RDNA", {"epochs": 1}),
        ("RDNA-without-reconstruction", {"epochs": 1, "hardened_noise": 0}),
        ("patches", {}),
        ("knn-mean-pooled", {}),
        ("GANomaly-pooled", {}),
    ],
)
def test_what_stands_on_a_backbone(category, method, parameters, monkeypatch):
    monkeypatch.setattr("gandetect.model.parameters.SharedParameters.epochs", 1)
    planned = replace(row(method), params=json.dumps({"backbone": "named", **parameters}))
    with monkeypatch.context() as patch:
        patch.setattr(industrial, "Backbone", lambda name: Backbone(Averages()))
        made = industrial.make_method(planned, None)
    if method in industrial.RDNAS:
        made.set_params(backbone=Averages())
    monkeypatch.setattr(industrial, "make_method", lambda *_: made)
    industrial.measure(planned, *category)
    has_maps = method not in industrial.POOLED
    assert planned.image_auroc > (0.5 if method == "GANomaly-pooled" else 0.8)
    assert (planned.pixel_auroc is not None) == has_maps
    if has_maps:
        assert planned.pixel_auroc > 0.8


def test_photographs_of_several_shapes_may_keep_them(category, tmp_path, monkeypatch):
    for split, bunch in zip(("train", "test"), category, strict=True):
        for i, (image, mask) in enumerate(zip(bunch.images, bunch.masks, strict=True)):
            kind = "bad" if mask.any() else "good"
            width = 16 if i % 2 else 12
            for folder, values in ((split, image), ("ground_truth", 255 * mask.astype(np.uint8))):
                if folder == "ground_truth" and kind == "good":
                    continue
                path = tmp_path / "stripes" / folder / kind / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values[:, :width]).save(path)
    arguments = ["--data", str(tmp_path), "--out=o", "--categories=stripes", "--methods=RDNA"]
    arguments += ["--backbone=efficientnet-lite0", "--keep-aspect", "--resolution=16"]
    args = industrial.parse_arguments([*arguments, "--set=epochs=1"])
    (planned,) = industrial.planned_rows(args)
    made = RDNADetector(backbone=Averages(), epochs=1, random_state=0)
    monkeypatch.setattr(industrial, "make_method", lambda *_: made)
    assert industrial.run(planned, args)
    assert planned.aspect == "kept"
    test = load_mvtec(tmp_path, "stripes", "test", image_size=16, lazy=True)
    _, maps = industrial.judge(made, list(test.images))
    assert {found.shape for found in maps} == {(16, 12), (16, 16)}
    assert planned.pixel_auroc > 0.8
    with_labels = replace(planned, n_labelled=2)
    made.set_params(labels="learn")
    assert industrial.run(with_labels, args)
    assert (with_labels.n_train, with_labels.n_test) == (planned.n_train + 2, planned.n_test - 2)
    with pytest.raises(SystemExit):
        industrial.parse_arguments([*arguments, "--methods=patches"])


def test_methods_of_features_need_a_backbone():
    arguments = ["--data=d", "--out=o", "--categories=a", "--methods=patches,knn-mean-pooled"]
    with pytest.raises(SystemExit):
        industrial.parse_arguments(arguments)
    args = industrial.parse_arguments([*arguments, "--backbone=efficientnet-lite0", "--textures=t"])
    planned = list(industrial.planned_rows(args))
    assert {row.params for row in planned} == {'{"backbone": "efficientnet-lite0"}'}


def test_the_table_has_the_mean_of_the_categories(tmp_path):
    results = Results(tmp_path / "out.csv", industrial.COLUMNS, industrial.KEY)
    for seed, (category, value) in enumerate([("a", 0.5), ("a", 0.7), ("b", 1.0)]):
        figures = dict.fromkeys([*industrial.FIGURES, "fit_seconds"], value)
        results.add(asdict(replace(row("PCA"), category=category, seed=seed, **figures)))
    figures = {**figures, "pixel_auroc": None, "pixel_ap": None, "pro": None}
    results.add(asdict(replace(row("knn-mean-pooled"), **figures)))
    lines = industrial.report(tmp_path / "out.csv").splitlines()
    assert lines[2].startswith("| PCA | a | 0.600 |")
    assert lines[3].endswith("| 1 | 1 |")
    assert lines[4].startswith("| PCA | mean | 0.800 |")
    assert lines[5].startswith("| knn-mean-pooled | stripes | 1.000 |  |  |  |")


def test_an_unknown_method_is_refused():
    with pytest.raises(SystemExit):
        industrial.parse_arguments(["--data", "d", "--out", "o", "--methods", "RDNA,SVM"])


@pytest.fixture
def parts(category):
    """The test set with kinds of defects; parts are shown twice, the first two are not listed."""
    _, test = category
    defects = np.array(["good"] * 20 + ["hole"] * 6 + ["crack"] * 4)
    groups = np.array([str(i // 2) if i > 1 else "" for i in range(30)])
    images = test.images.copy()
    images[:, 0, 0] = np.arange(30)  # by which they are known again
    return Bunch(**{**test, "images": images, "defects": defects, "groups": groups})


def test_labelled_defects_leave_the_test_set_with_all_photographs_of_their_parts(parts):
    labelled, rest = industrial.with_labelled(parts, 4, seed=0)
    chosen, tested = labelled.images[:, 0, 0], rest.images[:, 0, 0]
    np.testing.assert_array_equal(labelled.masks, parts.masks[chosen])
    assert sorted(parts.defects[chosen]) == ["crack", "crack", "hole", "hole"]
    of_labelled = set(parts.groups[chosen])
    assert len(of_labelled) == 4
    assert tested.tolist() == [i for i in range(30) if parts.groups[i] not in of_labelled]
    np.testing.assert_array_equal(rest.labels, parts.labels[tested])
    other, _ = industrial.with_labelled(parts, 4, seed=1)
    assert set(other.images[:, 0, 0]) != set(chosen)
    with pytest.raises(ValueError, match="only 5 parts"):
        industrial.with_labelled(parts, 6, seed=0)


def test_rdna_learns_from_labelled_defects_if_it_is_told_to(category, parts, monkeypatch):
    fitted = []
    for labels in ("learn", "ignore"):
        planned = replace(row("RDNA", labels=labels), n_labelled=2)
        made = RDNADetector(labels=labels)
        monkeypatch.setattr(made, "fit", lambda X, **known: fitted.append((X, known)))
        monkeypatch.setattr(industrial, "make_method", lambda *_, made=made: made)
        monkeypatch.setattr(
            industrial, "judge", lambda _, X: (X[:, 1, 1].astype(float), X.astype(float))
        )
        industrial.measure(planned, category[0], parts)
        assert planned.n_test == 26
    (with_them, known), (without, nothing) = fitted
    assert len(with_them) == 32 and len(without) == 30 and nothing == {}
    assert [mask.any() for mask in known["masks"]] == [False] * 30 + [True] * 2
