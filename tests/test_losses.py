"""Losses against numbers worked by hand: two members, two samples."""

import math

import pytest
import torch

from gandetect.losses import (
    divergence,
    divergence_from_prior,
    focal_loss,
    gaussian_error,
    loss_as_fake,
    loss_as_real,
    loss_to_label,
    mean_absolute_error,
    mean_squared_error,
    norm_distance,
    structural_similarity,
)
from gandetect.model import own_torch_settings

X = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[-1.0, 1.0], [5.0, 5.0]]])
X_HAT = torch.tensor([[[1.0, 5.0], [3.0, -4.0]], [[-1.0, 1.0], [4.0, 7.0]]])


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected))


def test_mean_absolute_error():
    assert_close(mean_absolute_error(X, X_HAT), [[1.5, 3.5], [0.0, 1.5]])


def test_mean_squared_error():
    assert_close(mean_squared_error(X, X_HAT), [[4.5, 12.5], [0.0, 2.5]])


def test_norm_distance():
    assert_close(norm_distance(X, X_HAT, 1), [[3.0, 7.0], [0.0, 3.0]])
    assert_close(norm_distance(X, X_HAT, 2), [[3.0, 5.0], [0.0, math.sqrt(5)]])


def test_cross_entropy():
    # The logit log 3 is a probability of 3/4; its loss as real is log 4/3, as fake log 4.
    logits = torch.tensor([[math.log(3.0), 0.0], [-math.log(3.0), 0.0]])
    two, four = math.log(2), math.log(4)
    assert_close(loss_as_real(logits), [[math.log(4 / 3), two], [four, two]])
    assert_close(loss_as_fake(logits), [[four, two], [math.log(4 / 3), two]])


def test_smoothed_labels():
    # With label 0.9: 0.9 * (as real) + 0.1 * (as fake).
    logits = torch.tensor([[math.log(3.0)]])
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert_close(loss_as_real(logits, 0.9), [[expected]])


@pytest.mark.parametrize("loss", [loss_as_real, loss_as_fake])
def test_extreme_logits_have_finite_losses_and_gradients(loss):
    logits = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    values = loss(logits)
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(logits.grad).all()
    assert sorted(values.tolist()[0]) == [0.0, 1e4]


@pytest.mark.parametrize(
    "distance",
    [mean_absolute_error, mean_squared_error, lambda x, y: norm_distance(x, y, 2)],
    ids=["absolute", "squared", "norm"],
)
def test_images_give_one_value_a_sample(distance):
    x, x_hat = torch.rand(2, 3, 1, 4, 5), torch.rand(2, 3, 1, 4, 5)
    found = distance(x, x_hat)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, distance(x.flatten(2), x_hat.flatten(2)))
    assert_close(distance(x, x), [[0.0] * 3] * 2)


def test_the_norm_of_equal_codes_has_a_gradient():
    z = torch.ones(1, 2, 3, requires_grad=True)
    norm_distance(z, torch.ones(1, 2, 3), 2).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_loss_to_label():
    outputs = torch.tensor([[[0.0, 2.0], [1.0, 1.0]], [[-1.0, 1.0], [3.0, 1.0]]])
    assert_close(loss_to_label(outputs, 1.0), [[1.0, 0.0], [2.0, 2.0]])
    assert_close(loss_to_label(outputs[..., 0], 0.0), [[0.0, 1.0], [1.0, 9.0]])


def test_focal_loss():
    # Logits of the probabilities 3/4 and 1/2 of an anomaly, at two pixels that are one and two
    # that are none.
    logits = torch.tensor([math.log(3.0), 0.0]).repeat(2).reshape(1, 1, 4)
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4)
    third, half, two = math.log(4 / 3), math.log(2), math.log(4)
    assert_close(
        focal_loss(logits, target), [[(third / 16 + half / 4 + 9 / 16 * two + half / 4) / 4]]
    )
    assert_close(focal_loss(logits, target, gamma=0), [[(third + half + two + half) / 4]])


def test_focal_loss_of_extreme_logits_is_finite():
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[[0.0, 0.0]]]))
    assert_close(loss, [[5e3]])
    loss.sum().backward()
    assert logits.grad.isfinite().all()


class TestStructuralSimilarity:
    @pytest.mark.parametrize("size", [(11, 11), (16, 40), (33, 12)])
    @pytest.mark.parametrize("data_range", [1.0, 2.0])
    def test_it_is_scikit_images(self, size, data_range):
        metrics = pytest.importorskip("skimage.metrics")
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(2, 3, 3, *size, generator=generator, dtype=torch.float64)
        x_hat = (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
        found = structural_similarity(x, x_hat, data_range)
        for member, sample in [(0, 0), (1, 2)]:
            expected = metrics.structural_similarity(
                x[member, sample].numpy(),
                x_hat[member, sample].numpy(),
                data_range=data_range,
                channel_axis=0,
                gaussian_weights=True,
                use_sample_covariance=False,
            )
            assert found[member, sample].item() == pytest.approx(expected, abs=1e-6)

    def test_one_pixel_by_hand(self):
        # A window of one pixel has no variance: what is left is the comparison of means.
        x, x_hat = torch.full((1, 1, 1, 1, 1), 0.2), torch.full((1, 1, 1, 1, 1), 0.6)
        expected = (2 * 0.12 + 0.01**2) / (0.04 + 0.36 + 0.01**2)
        assert_close(structural_similarity(x, x_hat), [[expected]])

    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 64), (10, 10)])
    def test_equal_images_of_any_size(self, size):
        x = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(structural_similarity(x, x), torch.ones(2, 2))

    def test_a_default_dtype_of_the_users_changes_no_bit(self):
        x, x_hat = torch.rand(2, 1, 3, 2, 12, 16, generator=torch.Generator().manual_seed(0))
        expected = structural_similarity(x, x_hat)
        torch.set_default_dtype(torch.float64)
        try:
            with own_torch_settings(torch.device("cpu")):
                assert torch.equal(structural_similarity(x, x_hat), expected)
        finally:
            torch.set_default_dtype(torch.float32)


def test_divergence():
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    torch.testing.assert_close(divergence(p.log(), q.log()), torch.tensor([expected]))
    assert divergence(p.log(), p.log()) == 0


def test_divergence_from_prior():
    """Of N(2, 4) and N(0, 1): (4 + 4 - log 4 - 1) / 2 and 0, and their mean."""
    mean, log_variance = torch.tensor([[2.0, 0.0]]), torch.tensor([[math.log(4), 0.0]])
    expected = (7 - math.log(4)) / 4
    torch.testing.assert_close(divergence_from_prior(mean, log_variance), torch.tensor([expected]))


def test_gaussian_error():
    """Of the point (1, 2) under N(0, 2²) in each value, by three kinds of scale."""
    x, x_hat = torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, 1, 2)
    expected = torch.tensor([[5 / 8 + 2 * math.log(2) + math.log(2 * math.pi)]])
    for scale in (torch.tensor(2.0), torch.tensor([2.0, 2.0]), 2 * torch.eye(2)):
        torch.testing.assert_close(gaussian_error(x, x_hat, scale), expected)
