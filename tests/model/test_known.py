"""What is made of known anomalies: mixtures, trees, distances, and what to label next."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from gandetect.model.known import (
    AnomalyTrees,
    KnownAnomalies,
    KnownDistances,
    shrunk_masks,
    worth_labelling,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def known():
    """300 normal rows around 0 and 4 anomalies at 6 in the second of three columns."""
    normal = torch.randn(300, 3, generator=generator())
    anomalies = 0.1 * torch.randn(4, 3, generator=generator(1))
    anomalies[:, 1] += 6
    return KnownAnomalies.among(anomalies, normal)


@pytest.fixture(scope="module")
def trees(known):
    return AnomalyTrees.of(known, generator())


def test_the_nearest_normal_samples_are_found(known):
    distances = torch.cdist(known.anomalies, known.normal)
    assert len(known) == 4
    assert known.near.shape == (4, 10)
    assert torch.equal(known.near, distances.argsort(dim=1)[:, :10])


def test_few_normal_samples_are_all_near():
    few = KnownAnomalies.among(torch.ones(2, 3), torch.zeros(4, 3))
    assert few.near.shape == (2, 4)


def test_mixtures_lie_nearer_to_the_anomaly(known):
    mixtures, normal = known.mixtures(2, 500, generator())
    assert mixtures.shape == normal.shape == (2, 500, 3)
    # The second column is 6 of an anomaly; of the nearest normal rows it is at most 3.
    share = (mixtures[..., 1] - normal[..., 1]) / (6 - normal[..., 1])
    assert 0.35 < share.min() < 0.6
    assert 0.9 < share.max() < 1.25
    # Beta(1/2, 1/2), of which the larger half is kept: its mean is 1/2 + 1/pi.
    assert share.mean() == pytest.approx(0.5 + 1 / np.pi, abs=0.02)
    near = {tuple(row.tolist()) for row in known.normal[known.near.unique()]}
    assert {tuple(row.tolist()) for row in normal.flatten(0, 1)} <= near


def test_mixtures_of_images_have_no_noise():
    images = KnownAnomalies.among(torch.ones(1, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    mixtures, normal = images.mixtures(1, 50, generator())
    assert mixtures.shape == (1, 50, 1, 2, 2)
    assert torch.equal(mixtures.amin((2, 3, 4)), mixtures.amax((2, 3, 4)))
    assert not normal.any()


def test_half_of_the_fakes_are_anomalies_themselves(known):
    fakes = known.fakes(2, 7, generator())
    anomalies = {tuple(row.tolist()) for row in known.anomalies}
    is_anomaly = [[tuple(row.tolist()) in anomalies for row in of_member] for of_member in fakes]
    assert is_anomaly == [[True] * 3 + [False] * 4] * 2


def test_the_same_draws_from_the_same_generator(known):
    first, second = (known.fakes(3, 9, generator(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_trees_tell_rows_like_the_anomalies(trees):
    like = torch.tensor([[[0.0, 6.0, 0.0], [0.0, 4.5, 0.0], [0.0, 0.0, 0.0], [0.0, -6.0, 0.0]]])
    found = trees(like)
    assert found.shape == (1, 4)
    assert found[0, 0] > found[0, 1] > 0 > found[0, 2]
    # What is far from both is no more like the anomalies than what is normal.
    assert found[0, 3] < 0


def test_trees_vote_as_scikit_learns_do(known):
    """The splits are those of the forest that was fitted, in float32."""
    forests = []
    fit = ExtraTreesClassifier.fit

    def noted(self, X, y):
        forests.append(self)
        return fit(self, X, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExtraTreesClassifier, "fit", noted)
        trees = AnomalyTrees.of(known, generator())
    x = 3 * torch.randn(200, 3, generator=generator(2))
    shares = trees.shares(x[None])
    for share, forest in zip(shares, forests, strict=True):
        np.testing.assert_allclose(share, forest.predict_proba(x.numpy())[:, 1], atol=1e-5)


def test_rows_get_their_bits_in_any_batch(trees):
    x = 3 * torch.randn(1, 100, 3, generator=generator(3))
    assert torch.equal(trees(x)[:, 40:41], trees(x[:, 40:41]))


def test_a_row_that_was_seen_is_judged_by_the_other_half(trees):
    shares = torch.tensor([[0.0, 0.0, 0.2], [0.5, 0.5, 0.4]])
    found = trees.of_unseen(shares, torch.tensor([0, 1, -1]))
    expected = trees.log_odds(torch.tensor([0.5, 0.0, 0.3]))
    torch.testing.assert_close(found, expected[None])


def test_unsure_trees_count_less(trees):
    """Their log-odds are divided by more than their deviation, and never by nearly nothing."""
    unit = trees.unit(torch.tensor([0.0, 0.5, 2.0]))
    assert unit.tolist() == [0.5, 0.5, 4.0]


def test_the_halves_have_seen_other_rows(known):
    """A row that lies among the anomalies seems normal only to the trees that have seen it."""
    normal = known.normal.clone()
    normal[10] = known.anomalies[0] + 0.01
    trees = AnomalyTrees.of(KnownAnomalies.among(known.anomalies, normal), generator())
    seen, unseen = trees.shares(normal[None, 10:11])[:, 0]
    assert seen < unseen


def test_trees_are_data(trees):
    values = trees.values_of()
    again = AnomalyTrees.loaded(values, 3)
    x = 3 * torch.randn(1, 50, 3, generator=generator(4))
    assert torch.equal(again(x), trees(x))


def changed(trees, name, change):
    values = trees.values_of()
    values[name] = change(values[name])
    return values


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("features", lambda v: v + 3),
        ("features", lambda v: v - 1),
        ("features", lambda v: v.float()),
        ("left", lambda v: v + v.shape[1]),
        ("right", lambda v: v - v.shape[1]),
        ("splits", lambda v: v / 0),
        ("splits", lambda v: v.double()),
        ("splits", lambda v: v[:, :-1]),
        ("votes", lambda v: v + 2),
        ("votes", lambda v: v - 2),
        ("depth", lambda v: 65),
        ("depth", lambda v: -1),
        ("depth", lambda v: 2.0),
    ],
)
def test_trees_that_lead_nowhere_are_refused(trees, name, change):
    with pytest.raises((ValueError, RuntimeError)):
        AnomalyTrees.loaded(changed(trees, name, change), 3)


def test_trees_hold_no_training_row(known, trees):
    assert not torch.isin(trees.splits[trees.splits != 0], known.normal).any()


def test_distances_fall_towards_known_anomalies():
    normal = torch.randn(2, 50, 4, generator=generator())
    anomalous = torch.full((2, 1, 4), 5.0)
    found = KnownDistances(normal, anomalous)
    z = torch.tensor([0.0, 2.5, 4.9, -4.9])[None, :, None].expand(2, 4, 4)
    log_ratio = found(z)
    assert log_ratio.shape == (2, 4)
    assert (log_ratio[:, 2] > log_ratio[:, 1]).all()
    assert (log_ratio[:, 1] > log_ratio[:, 0]).all()
    assert (log_ratio[:, 2] > log_ratio[:, 3]).all()


def test_a_distance_of_nothing_is_a_number():
    found = KnownDistances(torch.ones(1, 3, 2), torch.zeros(1, 1, 2))
    assert found(torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])).isfinite().all()


def test_distances_are_data():
    found = KnownDistances(torch.rand(2, 5, 3), torch.rand(2, 2, 3))
    again = KnownDistances.loaded(found.values_of(), 2, 3)
    z = torch.rand(2, 6, 3)
    assert torch.equal(again(z), found(z))
    for n_members, n_values in ((1, 3), (2, 4)):
        with pytest.raises(ValueError, match="another shape"):
            KnownDistances.loaded(found.values_of(), n_members, n_values)
    with pytest.raises(ValueError, match="finite"):
        KnownDistances.loaded({**found.values_of(), "normal": torch.full((2, 5, 3), np.nan)}, 2, 3)


def test_masks_shrink_to_cells_that_are_half_full():
    masks = torch.zeros(3, 4, 4)
    masks[0, :2, :2] = 1  # one whole cell
    masks[1, 1:3, 0] = 1  # a quarter of each of two cells
    assert shrunk_masks(masks, (2, 2)).tolist() == [
        [[1, 0], [0, 0]],
        [[1, 0], [1, 0]],
        [[0, 0], [0, 0]],
    ]


def test_what_is_worth_labelling_is_unclear_and_spread():
    points = np.array([[0.0], [0.0], [0.1], [5.0], [5.1], [99.0]] + [[50.0]] * 20)
    margin = np.array([0.2, 0.1, 0.3, 0.4, 0.5, 0.6] + [0.7] * 20)
    # Of 10 candidates for 2, the least clear one, and the farthest of the others.
    assert worth_labelling(margin, points, 2).tolist() == [1, 5]
    chosen = worth_labelling(margin, points, 26)
    assert sorted(chosen.tolist()) == list(range(26))


def test_equal_samples_are_chosen_once():
    assert sorted(worth_labelling(np.zeros(6), np.zeros((6, 2)), 6)) == list(range(6))
