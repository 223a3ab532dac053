import numpy as np
import pytest
from PIL import Image

from gandetect.datasets import DataFileError, iter_textures


def _write(folder, names=("dotted/2.png", "dotted/1.png", "banded/1.png")):
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6 + value, 4), (value, 0, 0)).save(folder / name)


@pytest.mark.parametrize("subfolder", [".", "images", "dtd", "dtd/images"])
def test_every_layout_in_the_order_of_names(tmp_path, subfolder):
    _write(tmp_path / subfolder)
    textures = list(iter_textures(tmp_path))
    assert [int(texture[0, 0, 0]) for texture in textures] == [2, 1, 0]
    assert [texture.shape for texture in textures] == [(4, 8, 3), (4, 7, 3), (4, 6, 3)]
    assert textures[0].dtype == np.uint8


def test_size_and_channels(tmp_path):
    _write(tmp_path)
    assert {t.shape for t in iter_textures(tmp_path, image_size=(5, 3))} == {(5, 3, 3)}
    assert {t.shape for t in iter_textures(tmp_path, 5, channels=1)} == {(5, 5)}


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    _write(tmp_path / "dtd" / "images")
    monkeypatch.setenv("GANDETECT_DATA", str(tmp_path))
    assert len(list(iter_textures())) == 3


def test_reads_one_at_a_time(tmp_path):
    _write(tmp_path)
    (tmp_path / "dotted" / "1.png").write_bytes(b"no image")
    textures = iter_textures(tmp_path)
    assert next(textures).shape == (4, 8, 3)
    with pytest.raises(DataFileError, match=r"1\.png cannot be read"):
        next(textures)


def test_a_flat_folder_is_refused_at_once(tmp_path):
    _write(tmp_path, ["a.png", "b.png"])
    with pytest.raises(FileNotFoundError, match=r"images/<class>/\*\.jpg or <class>/\*\.jpg"):
        iter_textures(tmp_path)


def test_a_missing_folder_is_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        iter_textures(tmp_path / "nowhere")


def test_arguments_are_checked_at_once(tmp_path):
    with pytest.raises(ValueError, match="image_size"):
        iter_textures(tmp_path, image_size=0)
    with pytest.raises(ValueError, match="channels"):
        iter_textures(tmp_path, channels=2)
