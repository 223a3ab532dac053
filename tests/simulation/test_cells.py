"""Corrupted cells of rows."""

import pytest
import torch

from gandetect.simulation import corrupt_cells


@pytest.fixture
def g():
    """The generator that everything in a test is drawn from."""
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (2, 64, 5), (1, 30, 40)])
def test_the_mask_says_which_cells_moved(g, shape):
    x = torch.randn(shape, generator=g)
    x_corrupted, mask = corrupt_cells(x, probability=1, generator=g)
    moved = (x_corrupted - x).abs()
    assert torch.equal(mask == 1, moved >= 0.1)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_a_share_of_the_rows_is_left_alone(g):
    x = torch.randn(2, 2000, 4, generator=g)
    x_corrupted, _ = corrupt_cells(x, probability=0.25, generator=g)
    share = (x_corrupted != x).any(dim=-1).float().mean()
    assert share == pytest.approx(0.25, abs=0.03)


def test_at_least_one_cell_of_each_corrupted_row_is_replaced(g):
    x = torch.randn(1, 500, 3, generator=g)
    x_corrupted, _ = corrupt_cells(x, probability=1, generator=g)
    n_replaced = (x_corrupted != x).sum(dim=-1)
    # A cell that takes its own value from its own row does not change.
    assert (n_replaced >= 1).float().mean() > 0.98
    # Shares are drawn from 5 to 100 %, so 52 % on average, or the one cell at the least.
    assert 1.5 < n_replaced.float().mean() < 2


def test_constant_columns_are_not_called_corrupted_unless_shaken(g):
    x = torch.zeros(1, 2000, 1)
    x_corrupted, mask = corrupt_cells(x, probability=1, generator=g)
    # Another row's value and one of the range are 0 as well: a third of the cells is shaken.
    assert 0.2 < mask.mean() < 0.34
    assert x_corrupted[mask == 0].abs().max() < 0.1


def test_members_are_corrupted_each_on_its_own(g):
    x = torch.randn(1, 50, 6, generator=g).expand(2, 50, 6)
    x_corrupted, _ = corrupt_cells(x, probability=1, generator=g)
    assert not torch.equal(x_corrupted[0], x_corrupted[1])
