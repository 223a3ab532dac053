"""RDNA on features: what its modules learn from, how noise is hardened, how maps are joined."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gandetect.model.features import (
    FeatureBatches,
    FeatureScore,
    SimulatedFeatures,
    VectorDiscriminator,
    VectorNetwork,
    hardened,
    largest_smoothed,
    noisy,
    simulate_features,
)
from gandetect.model.patches import PatchBank, drawn_patches, gaussian_smoothed
from gandetect.networks.backbone import Backbone
from gandetect.simulation import ImageAnomalies

D = 6


class Pooled(nn.Module):
    def forward(self, x):
        return [F.avg_pool2d(x, 4), F.avg_pool2d(x, 8)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return 0.4 + 0.05 * torch.randn(5, 3, 48, 48, generator=seeded())


@pytest.fixture
def backbone(images):
    return Backbone(Pooled()).learn([images])


@pytest.fixture
def make_anomalies():
    def make(seed=0):
        return ImageAnomalies(
            "procedural",
            3,
            (48, 48),
            probability=1.0,
            opacity=(0.9, 1.0),
            generator=seeded(seed),
        )

    return make


@pytest.fixture
def pool():
    """Anomalies are three standard deviations off in one direction."""
    clean = torch.randn(4000, D, generator=seeded())
    labels = (torch.rand(4000, generator=seeded(1)) < 0.4).float()
    return SimulatedFeatures(clean + 3 * labels[:, None], clean, labels)


class TestSimulatedFeatures:
    def test_vectors_are_those_of_the_cells(self, backbone, images, make_anomalies):
        maps = backbone(images)
        pool = simulate_features(
            backbone, images, maps, make_anomalies(), n_vectors=60, generator=seeded()
        )
        assert pool.corrupted.shape == pool.clean.shape == (len(pool.labels), D)
        assert len(pool.labels) <= 5 * 60
        every = maps.movedim(1, -1).flatten(0, 2)
        assert torch.cdist(pool.clean.float(), every).amin(1).max() < 1e-2
        # The finest maps see nothing beside their cell.
        untouched = pool.labels == 0
        assert torch.equal(pool.corrupted[untouched, :3], pool.clean[untouched, :3])
        changed = (pool.corrupted - pool.clean)[~untouched, :3].abs().amax(1)
        assert changed.min() > 0
        assert changed.median() > 1

    def test_half_are_anomalous_where_there_are_enough(self, backbone, images, make_anomalies):
        anomalies = make_anomalies()
        anomalies.masks = torch.zeros(1, 48, 48)
        anomalies.masks[:, :24] = 1
        pool = simulate_features(
            backbone, images, backbone(images), anomalies, n_vectors=20, generator=seeded()
        )
        assert len(pool.labels) == 100
        assert pool.labels.sum() == 50

    def test_the_generators_alone_decide(self, backbone, images, make_anomalies):
        maps = backbone(images)
        before = torch.get_rng_state()
        first, again, other = (
            simulate_features(backbone, images, maps, make_anomalies(s), generator=seeded(s))
            for s in (0, 0, 1)
        )
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first.corrupted, again.corrupted)
        assert first.corrupted.shape != other.corrupted.shape or not torch.equal(
            first.corrupted, other.corrupted
        )

    def test_normal_vectors_are_those_of_unchanged_cells(self, pool):
        normal = pool.normal()
        assert torch.equal(normal.corrupted, normal.clean)
        assert len(normal.labels) == (pool.labels == 0).sum()

    def test_where_all_cells_were_changed_the_vectors_before_are_normal(self, pool):
        of_anomalies = SimulatedFeatures(pool.corrupted, pool.clean, torch.ones(4000))
        normal = of_anomalies.normal()
        assert torch.equal(normal.corrupted, pool.clean)
        assert not normal.labels.any()

    def test_a_batch_has_both_vectors_and_the_label_side_by_side(self, pool):
        batches = FeatureBatches(SimulatedFeatures.joined([pool, pool]), 2, 2000, seeded())
        found = list(batches.epoch())
        assert len(found) == batches.n_batches == 4
        corrupted, clean, labels = found[0].split([D, D, 1], -1)
        assert corrupted.shape == (2, 2000, D)
        torch.testing.assert_close(corrupted, clean + 3 * labels)
        assert not torch.equal(corrupted[0], corrupted[1])


class TestNetworks:
    def test_members_are_apart(self):
        network = VectorNetwork(2, (2 * D, 5, 3), seeded()).eval()
        x = torch.randn(1, 10, D, generator=seeded()).expand(2, -1, -1)
        found = network(x, x)
        assert found.shape == (2, 10, 3)
        assert not torch.allclose(found[0], found[1])

    def test_a_discriminator_gives_the_features_behind_its_logit(self):
        network = VectorDiscriminator(1, (D, 5, 1), seeded()).eval()
        logits, features = network(torch.randn(1, 4, D, generator=seeded()))
        assert features.shape == (1, 4, 5)
        torch.testing.assert_close(network.last(features), logits)


class TestNoise:
    def test_it_has_the_deviations_that_are_promised(self):
        vectors = torch.ones(2, 5000, 50)
        deviations = (noisy(vectors, seeded()) - vectors).std(-1)
        assert deviations.mean().item() == pytest.approx(0.275, abs=0.02)
        assert 0.03 < deviations.min() < 0.08
        assert 0.48 < deviations.max() < 0.8

    @pytest.mark.parametrize("n_members", [1, 3])
    def test_hardened_it_looks_more_normal_at_the_same_distance(self, pool, n_members):
        judge = VectorNetwork(n_members, (D, 8, 1), seeded()).eval()
        origins = pool.normal().draw(n_members, 500, seeded())[..., :D]
        noise = noisy(origins, seeded())
        harder = hardened(judge, noise, origins, 2, 0.3)
        assert all(p.grad is None for p in judge.parameters())
        radii = [torch.linalg.vector_norm(x - origins, dim=-1) for x in (noise, harder)]
        torch.testing.assert_close(radii[0], radii[1])
        logits = [judge(x).mean((1, 2)) for x in (noise, harder)]
        assert (logits[1] < logits[0]).all()

    def test_no_steps_are_plain_noise(self):
        x = torch.randn(1, 4, D, generator=seeded())
        judge = VectorNetwork(1, (D, 8, 1), seeded()).eval()
        assert torch.equal(hardened(judge, x, torch.zeros_like(x), 0, 0.3), x)


def probability_of(maps, n_members=1):
    """As a discriminant would say it: members differ by how sure they are."""
    sureness = torch.linspace(1, 2, n_members)[:, None, None, None]
    return torch.sigmoid(sureness * (maps.mean(1) - 2))


def cells(bank, maps, n_members=1):
    """What a score is made of."""
    return (probability_of(maps, n_members), *bank(maps))


@pytest.fixture
def joined():
    normal = torch.randn(12, D, 8, 6, generator=seeded())
    patches = [drawn_patches(normal[:8], 25, generator=seeded())]
    bank = PatchBank.of(patches, generator=seeded())
    return FeatureScore.of(bank, [cells(bank, normal[i : i + 2]) for i in (8, 10)]), normal


class TestFeatureScore:
    def test_maps_and_scores_find_what_is_anomalous(self, joined):
        score, normal = joined
        anomalous = normal.clone()
        anomalous[:, :, 2:5, 1:4] += 3
        before, after = (score(*cells(score.bank, x)) for x in (normal, anomalous))
        assert after[0].shape == (1, 12, 8, 6)
        assert after[1].shape == after[2].shape == (1, 12)
        assert (after[1] > before[1]).all()
        assert (after[2] > before[2]).all()
        rises = after[0] - before[0]
        assert rises[..., 3, 2].mean() > 5 * rises[..., 7, 5].mean().abs()

    def test_all_parts_have_one_scale_on_images_kept_aside(self, joined):
        score, normal = joined
        for found in score(*cells(score.bank, normal[8:])):
            assert found.mean().abs() < 1e-3
            # The sum of two of deviation 1, which may go together or against each other.
            assert 0.1 < found.std(correction=0) <= 2.01

    def test_one_image_kept_aside_is_enough_to_go_on(self, joined):
        score, normal = joined
        score = FeatureScore.of(score.bank, [cells(score.bank, normal[:1])])
        assert all(found.isfinite().all() for found in score(*cells(score.bank, normal)))

    def test_after_training_on_masks_the_map_follows_the_discriminant(self, joined):
        score, normal = joined
        kept = [cells(score.bank, normal[8:])]
        learned = FeatureScore.of(score.bank, kept, knows_defects=True)
        without = FeatureScore.of(score.bank, kept)
        probability, *distances = cells(score.bank, normal)
        found, usual = (each(probability, *distances) for each in (learned, without))
        far = [2 * values for values in distances]
        risen = learned(probability, *far)[0] - found[0]
        torch.testing.assert_close(4 * risen, without(probability, *far)[0] - usual[0])
        likely = learned(probability + 0.1, *distances)[0] - found[0]
        torch.testing.assert_close(likely, without(probability + 0.1, *distances)[0] - usual[0])
        for same, expected in zip(found[1:], usual[1:], strict=True):
            assert torch.equal(same, expected)

    def test_images_trained_on_calibrate_distances_by_position(self, joined):
        score, normal = joined
        kept = [cells(score.bank, normal[8:])]
        far_below = kept[0][2].clone()
        far_below[:, -1] += 100
        learned = FeatureScore.of(score.bank, kept, trained_on=[far_below])
        moved = normal.clone()
        moved[:, :, -1] += 3
        parts = cells(score.bank, moved)
        found, usual = learned(*parts), FeatureScore.of(score.bank, kept)(*parts)
        assert (found[2] < usual[2]).all()
        assert torch.equal(found[0], usual[0])

    def test_each_member_has_its_score(self, joined):
        score, normal = joined
        score = FeatureScore.of(score.bank, [cells(score.bank, normal, 2)])
        located, scores, of_patches = score(*cells(score.bank, normal, 2))
        assert located.shape == (2, 12, 8, 6)
        assert not torch.equal(scores[0], scores[1])
        assert torch.equal(of_patches[0], of_patches[1])

    def test_it_is_saved_and_loaded(self, joined):
        score, normal = joined
        again = FeatureScore.loaded(score.state_dict())
        x = cells(score.bank, normal)
        for found, expected in zip(again(*x), score(*x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("bank.units", torch.ones(3)), ("peak_mean", torch.ones(4)), ("other", torch.ones(1))],
    )
    def test_the_state_of_something_else_is_refused(self, joined, name, value):
        with pytest.raises(RuntimeError):
            FeatureScore.loaded({**joined[0].state_dict(), name: value})

    def test_the_largest_value_is_taken_of_what_was_smoothed(self):
        maps = torch.rand(2, 3, 9, 7, generator=seeded())
        expected = gaussian_smoothed(maps[1], 1.0).flatten(1).amax(1)
        torch.testing.assert_close(largest_smoothed(maps)[1], expected)
