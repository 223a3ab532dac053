"""The bank of patches: what it draws, what its distances are, and how maps are calibrated."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn import functional as F

from gandetect.model import patches
from gandetect.model.patches import (
    PatchBank,
    PlaceCalibration,
    drawn_patches,
    gaussian_smoothed,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bank_of(maps, n_references, stride=2, seed=0):
    """A bank of as many patches of each image."""
    generator = seeded(seed)
    n_each = max(n_references // len(maps), 1)
    patches = drawn_patches(maps, n_each, stride=stride, generator=generator)
    return PatchBank.of([patches], n_references, stride=stride, generator=generator)


@pytest.fixture
def maps():
    return torch.randn(8, 5, 14, 11, generator=seeded())


def vectors_of(maps, stride):
    """The patches as rows, by their definition."""
    means = F.avg_pool2d(maps, stride, ceil_mode=True)
    height, width = means.shape[2:]
    rows = [
        means[n, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((1, 2))
        for n in range(len(means))
        for i in range(height)
        for j in range(width)
    ]
    return torch.stack(rows), (len(maps), height, width)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_distances_are_to_the_nearest_reference(maps, stride, monkeypatch):
    monkeypatch.setattr(patches, "_BLOCK", 7)
    bank = bank_of(maps, 40, stride)
    new = maps + torch.randn(maps.shape, generator=seeded(1))
    distances, in_own_units = bank(new)
    rows, shape = vectors_of(new, stride)
    references = NearestNeighbors(n_neighbors=4).fit(bank.references.numpy())
    expected = references.kneighbors(rows.numpy(), n_neighbors=1)[0]
    np.testing.assert_allclose(distances, expected.reshape(shape), rtol=1e-3, atol=1e-3)
    own = references.kneighbors(bank.references.numpy())[0][:, 1:].mean(1)
    all_own = torch.cdist(rows, bank.references) / torch.from_numpy(own).sqrt()
    expected = all_own.amin(1).numpy().reshape(shape)
    np.testing.assert_allclose(in_own_units, expected, rtol=1e-3, atol=1e-3)


def test_references_are_patches_of_every_image(maps):
    marked = maps + 1000 * torch.arange(8.0)[:, None, None, None]
    bank = bank_of(marked, 24)
    image = (bank.references.mean(1) / 1000).round().int()
    assert image.bincount().tolist() == [3] * 8
    rows, _ = vectors_of(marked, 2)
    assert torch.cdist(bank.references.double(), rows.double()).amin(1).max() < 1e-2


def test_all_patches_are_taken_once_where_they_are_fewer(maps):
    bank = bank_of(maps[:2], 10_000)
    rows, _ = vectors_of(maps[:2], 2)
    assert len(bank.references) == len(rows)
    torch.testing.assert_close(bank.references.sum(0), rows.sum(0), rtol=1e-3, atol=1e-3)


def test_fewer_references_than_images(maps):
    assert bank_of(maps, 3).references.shape == (3, 5)


@pytest.mark.parametrize("n_references", [40, 20])
def test_an_image_is_compared_with_the_others(maps, n_references, monkeypatch):
    monkeypatch.setattr(patches, "_BLOCK", 7)
    generator = seeded()
    drawn = drawn_patches(maps, 5, generator=generator)
    numbers = torch.arange(100, 108).repeat_interleave(5)
    bank = PatchBank.of([drawn], n_references, origins=[numbers], generator=generator)
    image = maps[3:4]
    others = bank.references[bank.origins != 103]
    assert len(others) < n_references
    expected = torch.cdist(vectors_of(image, 2)[0], others).amin(1)
    distances, in_own_units = bank(image, without=103)
    torch.testing.assert_close(distances.flatten(), expected, rtol=1e-3, atol=1e-3)
    assert (bank(image)[1] <= in_own_units).all()
    assert (bank(image)[0] < distances).any()
    for found, plain in zip(bank(image, without=0), bank(image), strict=True):
        torch.testing.assert_close(found, plain, rtol=0, atol=0)


def test_an_only_image_is_compared_with_itself(maps):
    numbers = [torch.zeros(5, dtype=torch.long)]
    drawn = drawn_patches(maps[:1], 5, generator=seeded())
    bank = PatchBank.of([drawn], origins=numbers, generator=seeded())
    assert bank(maps[:1], without=0)[0].isfinite().all()


def test_images_of_any_shape(maps):
    assert bank_of(maps, 20)(maps[:, :, :5, :9])[0].shape == (8, 3, 5)


def test_the_generator_alone_decides(maps):
    before = torch.get_rng_state()
    first, again, other = (bank_of(maps, 24, seed=s) for s in (0, 0, 1))
    torch.testing.assert_close(first.references, again.references, rtol=0, atol=0)
    assert not torch.equal(first.references, other.references)
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_patches_do_not_divide_by_nothing():
    maps = torch.ones(3, 2, 8, 8)
    distances, in_own_units = bank_of(maps, 10)(maps + 1)
    torch.testing.assert_close(distances, torch.full_like(distances, 2**0.5))
    torch.testing.assert_close(in_own_units, distances)


def test_a_loose_group_counts_less_in_own_units():
    dense = torch.randn(1, 2, 16, 16, generator=seeded()) * 0.01
    loose = torch.randn(1, 2, 16, 16, generator=seeded()) + 100
    bank = bank_of(torch.cat([dense, loose]), 400, stride=1)
    distances, in_own_units = bank(torch.cat([dense - 1, loose.clamp(min=0) + 5]))
    near, far = in_own_units.mean((1, 2)) / distances.mean((1, 2))
    assert near > 2 * far


class Score(nn.Module):
    """All of this file behind one another."""

    def __init__(self, bank, calibration):
        super().__init__()
        self.bank, self.calibration = bank, calibration

    def forward(self, maps):
        distances, in_own_units = self.bank(maps)
        return distances, gaussian_smoothed(self.calibration(in_own_units), 1.0)


@pytest.fixture
def score(maps):
    bank = bank_of(maps, 100)
    return Score(bank, PlaceCalibration.of(bank(maps)[1])).eval()


def test_it_is_saved_and_loaded(maps, score):
    n, d = score.bank.references.shape
    again = Score(PatchBank(n, d), PlaceCalibration(score.calibration.mean.shape))
    again.load_state_dict(score.state_dict())
    for found, expected in zip(again(maps), score(maps), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_it_is_exported(maps, score):
    dynamic = {"maps": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(score, (maps,), dynamic_shapes=dynamic)
    for found, expected in zip(program.module()(maps[:3]), score(maps[:3]), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's exporter, about itself
def test_onnx_gives_the_same(maps, score):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    dynamic = {"maps": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.onnx.export(score, (maps,), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: maps[:3].numpy()})
    for value, expected in zip(found, score(maps[:3]), strict=True):
        np.testing.assert_allclose(value, expected.numpy(), rtol=1e-3, atol=1e-3)


def test_gradients_reach_the_maps(maps, score):
    x = (maps + 0.1).requires_grad_()
    score(x)[1].amax((1, 2)).sum().backward()
    assert (x.grad.abs().sum((1, 2, 3)) > 0).all()


def test_gradients_are_finite_at_a_reference():
    maps = torch.ones(1, 2, 6, 6).requires_grad_()
    distances, in_own_units = bank_of(maps.detach(), 9)(maps)
    (distances.sum() + in_own_units.sum()).backward()
    assert distances.max() < 1e-3 and maps.grad.isfinite().all()


def test_place_calibration_removes_what_is_usual_at_a_place():
    usual = torch.arange(10.0)[:, None].expand(10, 12)
    maps = usual + torch.randn(200, 10, 12, generator=seeded())
    calibrated = PlaceCalibration.of(maps)(maps)
    rows = calibrated.mean((0, 2))[1:-1]  # a border's mean is blurred with its neighbour's
    assert rows.abs().max() < 0.2
    # The spread of 1, and a quarter of the mean spread on top.
    assert calibrated[:, 1:-1].std().item() == pytest.approx(1 / 1.25, rel=0.05)


def test_place_calibration_of_maps_of_another_size():
    calibration = PlaceCalibration.of(torch.stack([torch.ones(6, 4), 3 * torch.ones(6, 4)]))
    torch.testing.assert_close(calibration(torch.full((1, 9, 5), 2.0)), torch.zeros(1, 9, 5))


def test_place_calibration_of_one_map_only_shifts():
    calibrated = PlaceCalibration.of(torch.ones(1, 4, 4))(torch.full((2, 4, 4), 3.0))
    torch.testing.assert_close(calibrated, torch.full((2, 4, 4), 2.0))


def test_smoothing_is_gaussian():
    maps = torch.rand(2, 20, 30, generator=seeded()).double()
    expected = [gaussian_filter(m, 1.5, mode="nearest", truncate=3.1) for m in maps.numpy()]
    np.testing.assert_allclose(gaussian_smoothed(maps, 1.5), np.stack(expected), atol=2e-3)
