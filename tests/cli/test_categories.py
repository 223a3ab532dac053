import csv
import json

import numpy as np
import pytest
from PIL import Image

import gandetect
from gandetect.cli.categories import NUMBERED, side_by_side, with_means
from tests.helpers import needs_callbacks

TINY = ("--set", "epochs=1", "--set", "n_estimators=1", "--set", "latent_dim=2")
SMALL = (*TINY, "--set", "architecture=ConvNet(n_filters=4)")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two categories, of which "bottle" comes first in DRAEM's order."""
    root = tmp_path_factory.mktemp("root")
    rng = np.random.default_rng(0)
    places = [f"train/good/{i}" for i in range(6)] + [f"test/good/{i}" for i in range(3)]
    for category in ("bottle", "a_nut"):
        for name in (*places, "test/spot/0", "test/spot/1"):
            image = rng.integers(90, 110, size=(8, 8), dtype=np.uint8)
            if "spot" in name:
                image[2:5, 2:5] = 250
                mask = (image == 250).astype(np.uint8) * 255
                _save(root / category / "ground_truth" / "spot" / f"{name[-1]}_mask.png", mask)
            _save(root / category / f"{name}.png", image)
    return root


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@needs_callbacks
def test_every_category_and_the_mean(run, fails, root, tmp_path):
    data = ("--data", "mvtec:all", "--data-dir", root)
    keep = ("--checkpoint-dir", tmp_path / "kept", "--run-folder", tmp_path / "runs")
    out = tmp_path / "models"
    code, shown, err = run(
        "fit", "ganomaly", *data, *SMALL, *keep, "--run-every", "1", "--out", out, "--format", "csv"
    )
    assert (code, err) == (0, "")
    fitted = list(csv.DictReader(shown.splitlines()))
    assert [line["category"] for line in fitted] == ["bottle", "a_nut"]
    assert [line["model"] for line in fitted] == [
        str(out / f"{n}.model") for n in ("bottle", "a_nut")
    ]
    assert gandetect.load(out / "bottle.model").input_shape_ == (8, 8)
    for category in ("bottle", "a_nut"):
        assert (tmp_path / "kept" / category / "GANomalyDetector.safetensors").is_file()
        # The test part of the data is beside the training in the run folder.
        test_images = tmp_path / "runs" / category / "reconstruction" / "test"
        assert (test_images / "epoch_0001.png").is_file()

    code, shown, err = run("evaluate", out, *data, "--format", "json")
    assert (code, err) == (0, "")
    *lines, mean = json.loads(shown)
    assert [line["category"] for line in (*lines, mean)] == ["bottle", "a_nut", "mean"]
    assert lines[0]["samples"] == 5
    assert mean["samples"] is None
    for measure in ("roc_auc", "average_precision", "pixel_roc_auc", "pixel_average_precision"):
        assert mean[measure] == pytest.approx(np.mean([line[measure] for line in lines]))
    # One category by its name says the same as its line, and so does its number.
    for name in ("bottle", "1"):
        one = ("--data", f"mvtec:{name}", "--data-dir", root, "--format", "json")
        alone = json.loads(run("evaluate", out / "bottle.model", *one)[1])
        assert {"category": "bottle", **alone} == lines[0]

    (out / "a_nut.model").unlink()
    code, err = fails("evaluate", out, *data)
    assert (code, "a_nut.model, the model of a_nut" in err) == (1, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--threshold-data", "x", "--outlier-perc", "5"), "--threshold-data is for one category"),
        (("--go-on-from", "x"), "--go-on-from is for one category"),
        (("--run-folder", "r", "--run-test-data", "x"), "--run-test-data is for one category"),
    ],
)
def test_what_is_for_one_category(fails, root, tmp_path, more, message):
    data = ("--data", "mvtec:-1", "--data-dir", root)
    code, err = fails("fit", "ganomaly", *data, *more, "--out", tmp_path / "m")
    assert (code, message in err) == (2, True)


def test_commands_that_take_one_category(fails, image_model, root):
    data = ("--data", "mvtec:all", "--data-dir", root)
    for command in (("score", image_model), ("benchmark", "ganomaly")):
        code, err = fails(*command, *data)
        assert (code, "name one category" in err) == (2, True)


def test_no_categories(fails, tmp_path):
    data = ("--data", "mvtec:all", "--data-dir", tmp_path)
    code, err = fails("fit", "rdna", *data, "--out", tmp_path / "m")
    assert (code, "has no category" in err) == (1, True)


def test_there_are_fifteen_numbers():
    assert len(NUMBERED) == 15


def test_means_are_of_what_is_no_count():
    columns = side_by_side({"a": {"n": 1, "auc": 0.5}, "b": {"n": 3, "auc": 1.0}})
    assert with_means(columns) == {
        "category": ["a", "b", "mean"],
        "n": [1, 3, None],
        "auc": [0.5, 1.0, 0.75],
    }
