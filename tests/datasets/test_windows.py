"""Sliding windows: where they lie, and what their masks make of them."""

import numpy as np
import pytest

from gandetect.datasets import sliding_windows


def test_where_they_lie():
    image = np.arange(7 * 10, dtype=np.uint8).reshape(7, 10)
    patches = sliding_windows([image], size=(3, 4), stride=3)
    rows, columns = (0, 3, 4), (0, 3, 6)  # the last ones end with the image
    assert patches.corner.tolist() == [[top, left] for top in rows for left in columns]
    for (top, left), patch in zip(patches.corner, patches.data, strict=True):
        np.testing.assert_array_equal(patch, image[top : top + 3, left : left + 4])
    assert patches.data.dtype == np.uint8
    assert not patches.target.any() and patches.n_left_out == 0


def test_what_a_mask_makes_of_them():
    mask = np.zeros((4, 12))
    mask[0, 3], mask[:2, 8:] = 1, 255  # a single pixel, and an object
    patches = sliding_windows([np.zeros((4, 12, 3))] * 2, [mask, np.zeros_like(mask)], size=4)
    # Of the first image: shares 1/16, 1/16, 0, 1/4 and 1/2 at columns 0, 2, 4, 6 and 8.
    first = patches.image == 0
    assert patches.corner[first, 1].tolist() == [4, 6, 8]
    assert patches.target[first].tolist() == [0, 1, 1]
    assert patches.n_left_out == 2
    assert not patches.target[~first].any() and (~first).sum() == 5
    assert patches.data.shape == (8, 4, 4, 3)


def test_images_of_several_sizes():
    patches = sliding_windows([np.zeros((4, 4)), np.zeros((4, 8))], size=4, stride=4)
    assert patches.image.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("images", "masks", "more", "message"),
    [
        ([], None, {}, "images is empty"),
        ([np.zeros((3, 9))], None, {}, r"Image 0 of \(3, 9\) is smaller"),
        ([np.zeros(9)], None, {}, "height, width"),
        ([np.zeros((9, 9))], [np.zeros((9, 8))], {}, "mask of image 0"),
        ([np.zeros((9, 9))], [], {}, "must have the same length"),
        ([np.zeros((9, 9))], [np.zeros((9, 9))] * 2, {}, "must have the same length"),
        ([np.zeros((9, 9)), np.zeros((9, 9, 3))], None, {}, "Image 1 has the channels"),
        ([np.zeros((9, 9))], None, {"stride": 0}, "stride"),
        ([np.zeros((9, 9))], None, {"size": (4, 0)}, "size"),
        ([np.zeros((9, 9))], None, {"abnormal_share": 0.0}, "abnormal_share"),
    ],
)
def test_mistakes(images, masks, more, message):
    with pytest.raises(ValueError, match=message):
        sliding_windows(images, masks, **{"size": 4, **more})
