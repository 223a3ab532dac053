import csv

import numpy as np
import pytest
from PIL import Image

import gandetect
from gandetect.datasets import ImageFolder


def test_pictures_of_maps(run, image_model, image_folder, tmp_path):
    out = tmp_path / "maps"
    assert run("map", image_model, "--data", image_folder, "--out", out) == (0, "", "")
    paths = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert paths == sorted(
        p.relative_to(image_folder).as_posix() for p in image_folder.rglob("*.*")
    )
    maps = gandetect.load(image_model).anomaly_map(ImageFolder(image_folder))
    detector = gandetect.load(image_model)
    is_flagged = detector.predict(ImageFolder(image_folder)) < 0
    usual = maps[~is_flagged].max() if not is_flagged.all() else maps.max()
    for path, values in zip(paths, maps, strict=True):
        photograph, picture = (
            np.asarray(Image.open(folder / path).convert("RGB"), dtype=float)
            for folder in (image_folder, out)
        )
        assert picture.shape == photograph.shape
        changed = np.abs(picture - photograph).max(-1)
        # What is most usual is seen as it is; only what is unusual is outlined.
        is_outline = (picture == 255).all(-1)
        assert changed[(values == maps.min()) & ~is_outline].max(initial=0) <= 1
        assert (values > usual).any() or not is_outline.any()


def test_pictures_have_the_size_of_the_photographs(run, image_folder, tmp_path):
    model, out = tmp_path / "model", tmp_path / "maps"
    settings = ("--image-size", "16", "--set", "epochs=1", "--out", model)
    assert run("fit", "ganomaly", "--data", image_folder / "flat", *settings)[0] == 0
    assert run("map", model, "--data", image_folder, "--out", out)[0] == 0
    for path in image_folder.rglob("*.png"):
        name = path.relative_to(image_folder)
        with Image.open(path) as photograph, Image.open(out / name) as picture:
            assert picture.size == photograph.size


def test_an_array_of_maps(run, image_model, image_folder, tmp_path):
    out = tmp_path / "maps.npy"
    assert run("map", image_model, "--data", image_folder, "--out", out) == (0, "", "")
    expected = gandetect.load(image_model).anomaly_map(ImageFolder(image_folder))
    np.testing.assert_array_equal(np.load(out), expected)


def test_an_array_of_images_is_numbered(run, image_model, image_folder, tmp_path):
    np.save(tmp_path / "x.npy", ImageFolder(image_folder).stack())
    assert run("map", image_model, "--data", tmp_path / "x.npy", "--out", tmp_path / "o")[0] == 0
    assert (tmp_path / "o" / "000011.png").is_file()


def test_rows(run, model, table, tmp_path, named_rows):
    out = tmp_path / "maps.csv"
    data = ("--data", table, "--label-column", "kind")
    assert run("map", model, *data, "--out", out) == (0, "", "")
    with out.open() as file:
        lines = list(csv.DictReader(file))
    expected = gandetect.load(model).anomaly_map(named_rows)
    np.testing.assert_array_equal([float(line["c"]) for line in lines], expected[:, 2])


@pytest.mark.parametrize(
    ("kind", "out", "message"),
    [
        ("rows", "maps", "cannot be drawn as images"),
        ("rows", "maps.png", "takes .npy, .csv or a folder"),
        ("images", "maps.csv", "cannot be written as .csv"),
    ],
)
def test_mistakes(kind, out, message, fails, model, table, image_model, image_folder, tmp_path):
    data = (
        ("--data", table, "--label-column", "kind") if kind == "rows" else ("--data", image_folder)
    )
    code, err = fails(
        "map", model if kind == "rows" else image_model, *data, "--out", tmp_path / out
    )
    assert code == 2
    assert message in err
