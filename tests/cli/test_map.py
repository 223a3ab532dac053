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
    pictures = np.stack([np.asarray(Image.open(out / path)) for path in paths])
    assert (pictures.min(), pictures.max()) == (0, 255)
    scaled = 255 * (maps - maps.min()) / (maps.max() - maps.min())
    np.testing.assert_allclose(pictures, scaled, atol=0.5)


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
        ("rows", "maps", "no pictures"),
        ("rows", "maps.png", "takes .npy, .csv or a folder"),
        ("images", "maps.csv", "do not fit"),
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
