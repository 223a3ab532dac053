"""Losses against numbers worked by hand: two members, two samples."""

import math

import pytest
import torch

from gandetect.losses import (
    loss_as_fake,
    loss_as_real,
    mean_absolute_error,
    mean_squared_error,
    norm_distance,
)

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
