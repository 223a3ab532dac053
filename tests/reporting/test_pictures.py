import base64
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from gandetect.reporting.pictures import (
    Photographs,
    curves_svg,
    histogram_svg,
    history_svg,
)


def picture(address):
    kind, _, content = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), dtype=float)


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return np.r_[rng.normal(size=200), 3 + rng.normal(size=20)], np.repeat([False, True], [200, 20])


def test_drawings_are_whole_load_nothing_and_repeat(scores):
    values, is_anomaly = scores
    history = [{"epoch": 1, "latent": 0.5}, {"epoch": 2, "latent": 0.3}]

    def drawn():
        curves = curves_svg(values, 2.0, is_anomaly, "a name")
        return [history_svg(history), histogram_svg(values, 2.0, None), *curves.values()]

    for svg in drawn():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "<metadata" not in svg
        assert [address for address in svg.split('"') if "//" in address] == [
            "http://www.w3.org/2000/svg" if "xlink" not in address else address
            for address in svg.split('"')
            if "//" in address
        ]
        used = {
            value.removeprefix("#")
            for element in root.iter()
            for name, value in element.attrib.items()
            if name.endswith("href")
        }
        ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert used <= set(ids)
        assert len(ids) == len(set(ids))
    assert drawn() == drawn()


def test_curves_of_many_samples_stay_small():
    rng = np.random.default_rng(0)
    values = rng.normal(size=300_000)
    curves = curves_svg(values, 1.0, values + 2 * rng.normal(size=300_000) > 1, "a name")
    assert max(map(len, curves.values())) < 1_000_000


def test_a_photograph_and_its_map():
    images = [np.full((40, 20, 3), 128, dtype=np.uint8)] * 2
    maps = [np.zeros((10, 5)), np.zeros((10, 5))]
    maps[1][4:6, 1:3] = 5.0
    photographs = Photographs(images, maps, level=1.0)
    plain, without = map(picture, photographs.pair(0))
    assert plain.shape == without.shape == (256, 128, 3)
    assert abs(plain - 128).max() < 3
    assert abs(without - 128).max() < 3  # what is usual hides nothing
    _, hot = map(picture, photographs.pair(1))
    changed = abs(hot - 128).max(axis=2) > 40
    rows, columns = np.nonzero(changed)
    assert 256 * 0.3 < rows.mean() < 256 * 0.7
    assert columns.max() < 128 * 0.75
    assert (hot[changed].min(axis=1) > 200).any()  # the outline


def test_grey_channels_first_and_deep_images(tmp_path):
    values = np.linspace(0, 1, 64).reshape(8, 8)
    one = Photographs([values], [values], 2.0).pair(0)[0]
    with_channel = Photographs([values[..., None]], [values], 2.0).pair(0)[0]
    assert one == with_channel
    shown = picture(one)
    assert shown[:16, :16].mean() < 30
    assert shown[-16:, -16:].mean() > 225
    deep = (values * 4095).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    shown = picture(Photographs([tmp_path / "deep.png"], [values], 2.0).pair(0)[0])
    assert shown[:16, :16].mean() < 30
    assert shown[-16:, -16:].mean() > 225
