"""Parts of a score to one number, by hand."""

import numpy as np
import pytest
import torch

from gandetect.model.statistics import (
    Calibration,
    Neighbours,
    conformal_p_values,
    cross_conformal_p_values,
    draws,
    false_discovery_bound,
    mix,
    smallest,
    without_farthest,
)


class TestCalibration:
    def test_by_hand(self):
        calibration = Calibration.of({"a": torch.tensor([[1.0, 3.0], [10.0, 30.0]])})
        np.testing.assert_array_equal(calibration.mean["a"], [2, 20])
        np.testing.assert_array_equal(calibration.spread["a"], [1, 10])
        standardised = calibration.standardised("a", torch.tensor([[4.0], [20.0]]))
        np.testing.assert_array_equal(standardised, [[2], [0]])

    def test_in_double_precision(self):
        values = torch.tensor([[4096, 4096.125]], dtype=torch.float32)
        calibration = Calibration.of({"a": values})
        assert calibration.mean["a"].dtype == torch.float64
        assert calibration.mean["a"].item() == 4096.0625
        assert calibration.spread["a"].item() == 0.0625

    def test_a_part_that_is_always_the_same_keeps_its_units(self):
        calibration = Calibration.of({"a": torch.full((1, 5), 3.0)})
        assert calibration.standardised("a", torch.tensor([[5.0]])).item() == 2

    def test_nor_does_the_last_digit_of_float32_make_a_unit(self):
        calibration = Calibration.of({"a": torch.tensor([[1e8, 1e8 + 8]])})
        assert calibration.spread["a"].item() == 1

    def test_a_part_of_small_numbers_has_a_unit_of_its_own(self):
        calibration = Calibration.of({"a": torch.tensor([[-1e-9, 1e-9], [1e-5, 3e-5]])})
        np.testing.assert_allclose(calibration.spread["a"], [1e-9, 1e-5], rtol=1e-6)

    def test_one_sample(self):
        assert Calibration.of({"a": torch.tensor([[3.0]])}).spread["a"].item() == 1


class TestMix:
    @pytest.fixture
    def calibration(self):
        ones = torch.ones(2, dtype=torch.float64)
        return Calibration({"a": 0 * ones, "b": ones}, {"a": ones, "b": 2 * ones})

    def test_by_hand(self, calibration):
        parts = {"a": torch.tensor([[1.0], [3.0]]), "b": torch.tensor([[5.0], [1.0]])}
        # Members: (3 * 1 + 1 * 2) / 4 and (3 * 3 + 1 * 0) / 4.
        mixed = mix(parts, {"a": 3.0, "b": 1.0}, calibration)
        np.testing.assert_allclose(mixed, [[1.25], [2.25]])

    def test_only_the_ratio_of_weights_matters(self, calibration):
        parts = {"a": torch.tensor([[1.0], [3.0]]), "b": torch.tensor([[5.0], [1.0]])}
        one = mix(parts, {"a": 3.0, "b": 1.0}, calibration)
        np.testing.assert_allclose(mix(parts, {"a": 30.0, "b": 10.0}, calibration), one)

    def test_a_part_of_weight_0_is_not_looked_at(self, calibration):
        parts = {"a": torch.tensor([[1.0], [3.0]])}
        np.testing.assert_allclose(mix(parts, {"a": 1.0, "b": 0.0}, calibration), [[1], [3]])


class TestOrder:
    @pytest.mark.parametrize("order", [1.0, 2.0, 4.0])
    def test_distances_are_those_of_the_norm(self, order):
        points = torch.randn(1, 60, 4, generator=torch.Generator().manual_seed(0))
        z = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(1))
        # With so few references, none that is near by one norm is missed by the other.
        found = Neighbours.plain(points[:, :12], order).distance(z)
        distances = torch.cdist(z, points[:, :12], p=order).sort(dim=-1).values
        n_looked_at = min(6 * {1.0: 4, 2.0: 1, 4.0: 2}[order], 12)
        assert n_looked_at == 12 or order == 2
        torch.testing.assert_close(found, distances[..., :5].mean(-1), rtol=1e-4, atol=1e-5)

    def test_sums_of_differences_see_many_small_ones(self):
        """One sample differs by 3 in one column, one by 1 in each of five."""
        points = torch.zeros(1, 6, 5)
        one, many = torch.tensor([[3.0, 0, 0, 0, 0]]), torch.ones(1, 5)
        z = torch.stack([one, many], dim=1)
        by_sum = Neighbours.plain(points, 1.0).distance(z)[0]
        by_root = Neighbours.plain(points, 2.0).distance(z)[0]
        assert by_sum[0] < by_sum[1] and by_root[0] > by_root[1]


class TestJoinedNeighbours:
    """The codes of all members as one point."""

    @pytest.fixture
    def codes(self):
        return torch.randn(4, 300, 5, generator=torch.Generator().manual_seed(0))

    def test_one_distance_for_all_members(self, codes):
        neighbours = Neighbours.of_joined(codes)
        assert neighbours.points.shape == (1, 300, 5)
        assert neighbours.distance(codes[:, :7]).shape == (1, 7)

    def test_of_members_that_agree_it_is_that_of_each(self, codes):
        """Copies add nothing but a length: distances are 2 times as large in 4 times the values."""
        same = codes[:1].repeat(4, 1, 1)
        joined, alone = Neighbours.of_joined(same), Neighbours.of(codes[:1])
        x = torch.randn(1, 50, 5, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(
            joined.distance(x.repeat(4, 1, 1)), alone.distance(x) * 2**0.5, rtol=1e-4, atol=1e-5
        )

    def test_what_differs_most_is_kept(self, codes):
        """Of two members, one of which hardly differs from sample to sample."""
        uneven = torch.cat([codes[:1], 1e-3 * codes[1:2]])
        axes = Neighbours.of_joined(uneven).axes
        assert axes[:5].square().sum() > 4.999

    def test_of_a_table_they_are_scaled_half_as_much(self, codes):
        whole, half = Neighbours.of_joined(codes), Neighbours.of_joined_table(codes)
        torch.testing.assert_close(half.spreads, whole.spreads.sqrt())
        torch.testing.assert_close(half.axes, whole.axes)


class TestNeighbours:
    @pytest.fixture
    def neighbours(self):
        """Without spreads: distances as they are."""
        points = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0]).reshape(1, 7, 1)
        return Neighbours(points, torch.ones(1, 7))

    def test_mean_distance_to_the_nearest_five(self, neighbours):
        # From 0.4: 0.4, 0.6, 1.6, 2.6, 3.6.
        distance = neighbours.distance(torch.tensor([[[0.4]]]))
        assert distance.item() == pytest.approx((0.4 + 0.6 + 1.6 + 2.6 + 3.6) / 5)

    def test_differences_are_those_to_the_same_five(self, neighbours):
        z = torch.randn(
            1, 4, neighbours.points.shape[-1], generator=torch.Generator().manual_seed(0)
        )
        for compared, is_own in ((z, False), (neighbours.points[:, :3], True)):
            distances = (compared[:, :, None] - neighbours.points[:, None]).norm(dim=-1)
            nearest = distances.argsort(-1)[..., is_own : 5 + is_own]
            for row, found in enumerate(neighbours.differences(compared)[0]):
                others = neighbours.points[0, nearest[0, row]]
                torch.testing.assert_close(found, (others - compared[0, row]).abs().mean(0))

    def test_a_lone_reference_is_compared_with(self):
        neighbours = Neighbours.plain(torch.zeros(1, 1, 2))
        found = neighbours.differences(torch.tensor([[[3.0, -4.0]]]))
        assert found.tolist() == [[[3.0, 4.0]]]

    def test_the_scale_of_copies_is_a_twentieth_of_the_mean(self):
        """They are at no distance from each other, but from all others."""
        group = torch.randn(1, 30, 2, generator=torch.Generator().manual_seed(0))
        points = torch.cat([torch.zeros(1, 10, 2), group + 5], dim=1)
        plain = Neighbours.plain(points).distance(points)
        assert (plain[0, :10] == 0).all() and (plain[0, 10:] > 0.05 * plain.mean()).all()
        spreads = Neighbours.of(points).spreads
        torch.testing.assert_close(spreads[0, :10], (0.05 * plain.mean()).expand(10))
        torch.testing.assert_close(spreads[0, 10:], plain[0, 10:])

    def test_rows_of_tables_are_scaled_half_as_much(self):
        points = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
        scaled, found = Neighbours.of(points), Neighbours.of_table(points)
        torch.testing.assert_close(found.spreads, scaled.spreads.sqrt())
        assert torch.equal(found.points, points)

    def test_a_reference_is_no_neighbour_of_itself(self, neighbours):
        z = torch.tensor([[[0.0], [0.5]]])
        distance = neighbours.distance(z)
        others = [(1 + 2 + 3 + 4 + 5) / 5, (0.5 + 0.5 + 1.5 + 2.5 + 3.5) / 5]
        np.testing.assert_allclose(distance, [others])

    def test_a_reference_that_was_rounded_elsewhere_is_passed_over_too(self):
        points = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0))
        neighbours = Neighbours.of(points)
        found = neighbours.distance(points * (1 + 2e-5))
        torch.testing.assert_close(found, neighbours.distance(points), rtol=1e-3, atol=1e-4)

    def test_members_have_their_own_references(self):
        points = torch.stack([torch.zeros(6, 2), torch.full((6, 2), 3.0)])
        distance = Neighbours.of(points).distance(torch.zeros(2, 1, 2))
        np.testing.assert_allclose(distance, [[0], [3 * 2**0.5]], rtol=1e-6)

    def test_units_are_the_roots_of_the_references_own_distances(self):
        """Of two members: ten at a distance of 1 from each other, and ten at a distance of 9."""
        points = torch.stack([torch.arange(10.0), 9 * torch.arange(10.0)])[:, :, None]
        neighbours = Neighbours.of(points)
        in_the_middle = np.mean([1, 1, 2, 2, 3])
        np.testing.assert_allclose(neighbours.spreads[:, 4], [in_the_middle, 9 * in_the_middle])
        dense, sparse = neighbours.distance(torch.full((2, 1, 1), -1e5))
        assert (dense / sparse).item() == pytest.approx(3, rel=1e-2)

    def test_nearest_are_those_in_the_references_units(self):
        """A reference that lies twice as far but has nine times the spread is the nearer one."""
        points = torch.tensor([-2.0, 4.0]).reshape(1, 2, 1)
        neighbours = Neighbours(points.repeat(1, 6, 1), torch.tensor([1.0, 9.0]).repeat(1, 6))
        assert neighbours.distance(torch.zeros(1, 1, 1)).item() == pytest.approx(4 / 9**0.5)

    def test_references_that_occur_many_times_have_a_spread(self):
        points = torch.cat([torch.zeros(30), torch.arange(1.0, 11.0)]).reshape(1, 40, 1)
        neighbours = Neighbours.of(points)
        assert (neighbours.spreads > 0).all()
        assert neighbours.distance(torch.zeros(1, 1, 1)).item() == 0
        assert neighbours.distance(torch.full((1, 1, 1), 0.5)).isfinite().all()

    def test_scores_do_not_jump_where_one_reference_takes_over_from_another(self):
        torch.manual_seed(0)
        neighbours = Neighbours.of(torch.randn(1, 200, 3).double())
        path = torch.linspace(-3, 3, 20_001).double()
        z = torch.stack([path, path.sin(), torch.full_like(path, 0.3)], dim=1)[None]
        steps = neighbours.distance(z)[0].diff().abs()
        assert steps.max() < 5 * steps.mean()

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_few_references(self, n):
        distance = Neighbours.of(torch.zeros(1, n, 1)).distance(torch.full((1, 2, 1), 2.0))
        np.testing.assert_allclose(distance, [[2, 2]])

    def test_codes_far_from_zero_lose_no_digits(self):
        """Distances by way of a matrix product would be noise here."""
        points = 1000 + torch.arange(40.0).reshape(1, 40, 1) / 8
        neighbours = Neighbours(points, torch.ones(1, 40))
        distance = neighbours.distance(points[:, :1])
        assert distance.item() == pytest.approx((1 + 2 + 3 + 4 + 5) / 8 / 5, rel=1e-4)

    @pytest.mark.parametrize("n_dimensions", [1, 3, 300])
    @pytest.mark.parametrize("offset", [0.0, 10.0])
    @pytest.mark.parametrize("n_references", [3, 90])
    def test_against_plain_distances_in_double_precision(self, n_dimensions, offset, n_references):
        generator = torch.Generator().manual_seed(0)
        shape = (2, n_references, n_dimensions)
        points = offset + torch.randn(shape, generator=generator) * torch.tensor(
            [[[1.0]], [[20.0]]]
        )
        new = offset + 5 * torch.randn((2, 70, n_dimensions), generator=generator)
        z = torch.cat([new, points[:, :20]], dim=1)
        neighbours = Neighbours.of(points)
        plain = of_plain_distances(points.double(), neighbours.spreads.double(), z.double())
        np.testing.assert_allclose(neighbours.distance(z), plain, rtol=1e-5)
        # The spreads are such distances among the references themselves.
        ones = torch.ones(points.shape[:2], dtype=torch.float64)
        own = of_plain_distances(points.double(), ones, points.double())
        own = torch.maximum(own, 0.05 * own.mean(1, keepdim=True))
        np.testing.assert_allclose(neighbours.spreads, own, rtol=1e-5)


def of_plain_distances(points, spreads, z):
    """Mean distance to the nearest five, in the references' units, without the sample itself."""
    distances = torch.cdist(z, points, compute_mode="donot_use_mm_for_euclid_dist")
    is_own = distances < 1e-9
    units = (distances / spreads[:, None].sqrt()).masked_fill(is_own, torch.inf)
    nearest = units.sort(dim=-1).values[..., : min(5, points.shape[1] - 1)]
    return nearest.mean(-1)


@pytest.fixture
def normal_and_knot():
    """References around zero, of which twenty in 420 lie in a knot elsewhere."""
    torch.manual_seed(0)
    return torch.cat([torch.randn(400, 2), 5 + torch.randn(20, 2) / 50])[None]


@pytest.mark.parametrize("n_values", [3, 499, 500, 501, 2000])
@pytest.mark.parametrize("n", [1, 3])
def test_the_smallest_are_found_among_many(n_values, n):
    values = torch.randn(2, 9, n_values, generator=torch.Generator().manual_seed(n_values))
    values[0, 0, -1] = values[0, 1, 0] = -9.0
    values[1, 0, : n_values // 2] = 1e15
    found = smallest(values, n)
    expected = values.topk(n, dim=-1, largest=False).values
    found_values = values.gather(-1, found).sort(dim=-1).values
    torch.testing.assert_close(found_values, expected, rtol=0, atol=0)


@pytest.mark.parametrize("n_values", [3, 249, 501, 2000])
def test_candidates_are_the_smallest_of_separate_groups(n_values):
    values = torch.randn(2, 9, n_values, generator=torch.Generator().manual_seed(n_values))
    found = smallest(values, 3, exact=False)
    taken = values.gather(-1, found).sort(-1).values
    smallest_ones = values.sort(-1).values
    assert (taken[..., 0] == smallest_ones[..., 0]).all()
    assert (taken[..., 1:] > taken[..., :-1]).all(), "one value was taken twice"
    # Two of the few smallest may be in one group: the next ones take their place.
    assert (taken[..., 2] <= smallest_ones[..., min(12, n_values) - 1]).all()


class TestDraws:
    @pytest.mark.parametrize(("n", "size"), [(1000, 64), (100, 12), (40, 6), (3, 3), (1, 1)])
    def test_small_but_enough_for_neighbours(self, n, size):
        drawn = draws(n)
        assert drawn.shape == (16, size)
        for draw in drawn.tolist():
            assert len(set(draw)) == size
            assert set(draw) <= set(range(n))

    def test_they_differ_and_repeat_and_leave_the_random_numbers_alone(self):
        before = torch.get_rng_state()
        drawn = draws(200)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(draws(200), drawn)
        assert len({tuple(draw) for draw in drawn.tolist()}) == 16

    def test_points_that_are_given_once_are_for_all_draws(self):
        torch.manual_seed(0)
        neighbours = Neighbours.plain(torch.randn(300, 2)[draws(300)])
        z = torch.randn(1, 5, 2)
        assert torch.equal(neighbours.distance(z), neighbours.distance(z.expand(16, -1, -1)))

    def test_anomalies_like_those_that_were_trained_on_stay_far(self, normal_and_knot):
        """They are near each other in all of the references, and strangers in most draws."""
        new_normal, new_knot = torch.randn(1, 200, 2), 5 + torch.randn(1, 50, 2) / 50
        among_all = Neighbours.of(normal_and_knot)
        assert among_all.distance(new_knot).max() < among_all.distance(new_normal).median()
        among_few = Neighbours.plain(normal_and_knot[0, draws(420)])
        far = among_few.distance(new_normal).mean(0).quantile(0.95)
        assert among_few.distance(new_knot).mean(0).min() > far


class TestWithoutFarthest:
    def test_all_stay_where_no_share_goes(self, normal_and_knot):
        assert without_farthest(normal_and_knot, 0.0) is normal_and_knot

    def test_a_knot_of_anomalies_goes_and_the_order_stays(self, normal_and_knot):
        members = torch.cat([normal_and_knot, normal_and_knot.flip(1)])
        kept = without_farthest(members, 0.05)
        assert kept.shape == (2, 399, 2)
        assert kept.amax() < 4.5
        assert torch.equal(kept[0], kept[1].flip(0))


class TestCrossConformalPValues:
    def test_one_fold_is_a_split(self):
        rng = np.random.default_rng(0)
        new, normal = rng.normal(size=30), rng.normal(size=20)
        np.testing.assert_array_equal(
            cross_conformal_p_values([new], [normal]), conformal_p_values(new, normal)
        )

    def test_each_fold_compares_by_its_own_scores(self):
        normal = [np.array([1.0, 3.0]), np.array([100.0, 300.0, 500.0])]
        found = cross_conformal_p_values([np.array([2.0]), np.array([300.0])], normal)
        assert found.tolist() == [(1 + 1 + 2) / 6]


class TestFalseDiscoveryBound:
    def test_it_holds_with_its_probability_for_every_set(self):
        """Of all-normal batches the number flagged is the number of false ones, at every p."""
        n_failures, repeats = {0.8: 0, 0.95: 0}, 120
        for seed in range(repeats):
            rng = np.random.default_rng(seed)
            p_values = conformal_p_values(rng.normal(size=40), rng.normal(size=80))
            order = np.argsort(p_values)
            for confidence in n_failures:
                sets = [np.isin(np.arange(40), order[:k]) for k in (1, 2, 3, 5, 8, 13, 40)]
                n_failures[confidence] += any(
                    false_discovery_bound(p_values, flags, 80, confidence) < flags.sum()
                    for flags in sets
                )
        for confidence, n in n_failures.items():
            error = np.sqrt(confidence * (1 - confidence) / repeats)
            assert n / repeats <= 1 - confidence + 3 * error

    def test_it_holds_with_anomalies_in_the_batch(self):
        n_failures = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            scores = np.concatenate([rng.normal(size=60), 5 + rng.normal(size=15)])
            p_values = conformal_p_values(scores, rng.normal(size=500))
            flags = p_values <= np.sort(p_values)[14]
            bound = false_discovery_bound(p_values, flags, 500, 0.9)
            n_failures += flags[:60].sum() > bound
            assert bound < flags.sum() / 2  # it says something
        assert n_failures <= 60 * 0.1 + 3 * np.sqrt(60 * 0.09)

    def test_more_to_compare_with_certifies_more(self):
        def bound(n):
            p_values = np.r_[np.full(10, 1 / (n + 1)), np.linspace(0.2, 1, 90)]
            return false_discovery_bound(p_values, p_values < 0.1, n)

        assert bound(20) == 10
        assert bound(200) > bound(2000) >= 1

    def test_what_is_added_without_evidence_counts_as_false(self):
        p_values = np.r_[np.full(20, 1 / 1001), np.full(80, 0.9)]
        flags = p_values < 0.1
        bound = false_discovery_bound(p_values, flags, 1000)
        assert false_discovery_bound(p_values, np.ones(100, bool), 1000) == bound + 80
        assert false_discovery_bound(p_values, np.zeros(100, bool), 1000) == 0

    def test_the_same_call_gives_the_same(self):
        p_values = np.linspace(0.001, 1, 50)
        assert false_discovery_bound(p_values, p_values < 0.1, 999) == false_discovery_bound(
            p_values, p_values < 0.1, 999
        )

    @pytest.mark.parametrize(
        ("changed", "error", "what"),
        [
            ({"confidence": "high"}, TypeError, "confidence must be a number"),
            ({"confidence": 95}, ValueError, "between 0 and 1"),
            ({"p_values": [0.5, 1.5]}, ValueError, "p_values"),
            ({"is_flagged": [0, 1]}, ValueError, "one boolean for each sample"),
            ({"is_flagged": [True]}, ValueError, "one boolean for each sample"),
        ],
    )
    def test_bad_input(self, changed, error, what):
        given = {"p_values": [0.5, 0.1], "is_flagged": [False, True], "n_normal": 9, **changed}
        with pytest.raises(error, match=what):
            false_discovery_bound(**given)
