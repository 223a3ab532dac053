"""Ascent stays in its ball, and keeps the best place that it comes by."""

import math

import pytest
import torch

from gandetect.model.ascent import Ball, ascent, better, gradient_at, highest

X = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_largest_change_may_differ_from_value_to_value():
    eps = torch.tensor([[0.0, 0.1]]).double()
    moved = Ball(X, eps).projected(X + 1)
    torch.testing.assert_close(moved, X + eps.expand_as(X))


def test_euclid():
    ball = Ball(X, 0.5, norm=2)
    far, near = ball.projected(X + 3), ball.projected(X + 0.01)
    torch.testing.assert_close((far - X).flatten(1).norm(dim=1), torch.full((5,), 0.5).double())
    torch.testing.assert_close(near, X + 0.01)


def test_members_may_stand_in_front():
    x = X[None].expand(4, *X.shape)
    far = Ball(x, 0.5, norm=2, n_axes=2).projected(x + 3)
    torch.testing.assert_close((far - x).flatten(2).norm(dim=2), torch.full((4, 5), 0.5).double())


def test_limits_hold_whatever_the_radius_is():
    moved = Ball(X.clamp(-1, 1), 9.0, limits=(-1.0, 1.0)).projected(X + 5)
    assert moved.max() <= 1.0


def test_a_random_place_lies_inside_and_repeats():
    ball = Ball(X, 0.2)
    places = [ball.drawn(torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*places)
    assert 0.1 < (places[0] - X).abs().max() <= 0.2


def test_steps_go_up_and_can_cross_the_ball():
    def slope(x):
        return x - 2

    places = list(ascent(slope, Ball(torch.full((1, 2), 2.1), 0.5), n_steps=5))
    values = [float((place - 2).square().sum()) for place in places]
    assert values == sorted(values)
    torch.testing.assert_close(places[-1], torch.full((1, 2), 2.6))


def test_the_best_place_is_kept_where_a_step_goes_too_far():
    """Of a narrow peak, which steps of half the radius jump over."""

    def peak(x):
        return -(x - 0.5).abs().sum(1)

    x, value = highest(peak, Ball(torch.zeros(2, 1), 1.0), n_steps=4, step=0.5)
    torch.testing.assert_close(x, torch.full((2, 1), 0.5))
    torch.testing.assert_close(value, torch.zeros(2))
    assert not x.requires_grad
    assert not value.requires_grad


def test_a_flat_function_moves_nothing():
    x, value = highest(lambda x: torch.zeros(len(x)), Ball(X, 1.0), n_steps=2)
    assert torch.equal(x, X)
    assert (value == 0).all()


def test_another_direction_may_be_given():
    ball = Ball(torch.zeros(1, 2), 1.0)
    x, _ = highest(
        lambda x: x.sum(1), ball, n_steps=3, slope=lambda x, values: torch.tensor([[1.0, 0.0]])
    )
    torch.testing.assert_close(x, torch.tensor([[1.0, 0.0]]))


def test_gradient_at():
    x = X.clone().requires_grad_()
    torch.testing.assert_close(gradient_at(x, x.square().sum((1, 2))), 2 * X)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_better(shape):
    values, others = torch.zeros(shape), torch.zeros(shape)
    others[..., 1] = math.inf
    x, found = better(torch.zeros(*shape, 4), values, torch.ones(*shape, 4), others)
    assert x.sum() == 4 * others.isinf().sum()
    assert torch.equal(found, others)
