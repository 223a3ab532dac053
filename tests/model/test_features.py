"""RDNA's modules on features: what they learn from, how noise is hardened, and that they learn."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gandetect.model.features import (
    FeatureScore,
    FeatureTraining,
    SimulatedFeatures,
    build_networks,
    hardened,
    judge_maps,
    noisy,
    reconstruct_and_judge,
    simulate_features,
    train_step,
)
from gandetect.model.patches import PatchBank, PlaceCalibration
from gandetect.networks.backbone import Backbone
from gandetect.simulation import ImageAnomalies

D = 6


class Pooled(nn.Module):
    def forward(self, x):
        return [F.avg_pool2d(x, 4), F.avg_pool2d(x, 8)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def own_random_numbers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def images():
    return 0.4 + 0.05 * torch.randn(5, 3, 48, 48, generator=seeded())


@pytest.fixture
def backbone(images):
    return Backbone(Pooled()).learn([images])


@pytest.fixture
def anomalies():
    return ImageAnomalies("procedural", 3, (48, 48), probability=1.0, opacity=(0.9, 1.0))


@pytest.fixture
def pool():
    """Anomalies are three standard deviations off in one direction."""
    clean = torch.randn(4000, D, generator=seeded())
    labels = (torch.rand(4000, generator=seeded(1)) < 0.4).float()
    return SimulatedFeatures(clean + 3 * labels[:, None], clean, labels)


def trained(pool, n_updates=60, n_members=1, seed=0, restores=True, **parameters):
    training = FeatureTraining(batch_size=256, **parameters)
    torch.manual_seed(0)
    adversarial = training.adversarial_weight > 0
    made = build_networks(D, n_members, restores=restores, adversarial=adversarial)
    nets, optimizers = nn.ModuleDict(made), {}
    for name, of_it, rate in (
        ("modules", lambda name: "discriminator" not in name, 3e-3),
        ("discriminators", lambda name: "discriminator" in name, 1e-3),
    ):
        parameters = [p for key, net in nets.items() if of_it(key) for p in net.parameters()]
        if parameters:
            optimizers[name] = torch.optim.Adam(parameters, rate)
    generator, normals, history = seeded(seed), pool.normal(), []
    for i in range(n_updates):
        losses = train_step(
            nets,
            optimizers,
            pool,
            normals,
            i / n_updates,
            training,
            n_members=n_members,
            generator=generator,
        )
        history.append({name: loss.mean().item() for name, loss in losses.items()})
    return nets.eval(), history


def test_vectors_are_those_of_the_cells(backbone, images, anomalies):
    maps = backbone.extract(images)
    pool = simulate_features(
        backbone, images, maps, anomalies, n_images=7, n_vectors=60, generator=seeded()
    )
    assert pool.corrupted.shape == pool.clean.shape == (len(pool.labels), D)
    assert len(pool.labels) <= 7 * 60
    every = maps.movedim(1, -1).flatten(0, 2)
    assert torch.cdist(pool.clean.double(), every.double()).amin(1).max() < 1e-4
    # The finest maps see nothing beside their cell.
    untouched = pool.labels == 0
    torch.testing.assert_close(pool.corrupted[untouched, :3], pool.clean[untouched, :3])
    changed = (pool.corrupted - pool.clean)[~untouched, :3].abs().amax(1)
    assert changed.min() > 0 and changed.median() > 1


def test_half_of_the_vectors_are_anomalous_where_there_are_enough(backbone, images, anomalies):
    anomalies.masks = torch.zeros(1, 48, 48)
    anomalies.masks[:, :24] = 1
    pool = simulate_features(
        backbone, images, backbone(images), anomalies, n_images=10, n_vectors=20, generator=seeded()
    )
    assert len(pool.labels) == 200 and pool.labels.sum() == 100


def test_images_of_several_shapes(backbone, images, anomalies):
    images = [images[0], images[1, :, :20], images[2, :, :, :24], images[3, :, :20]]
    maps = [backbone(x[None])[0].half() for x in images]
    pool = simulate_features(backbone, images, maps, anomalies, n_images=9, generator=seeded())
    assert pool.corrupted.dtype == torch.float16
    every = torch.cat([m.flatten(1).T for m in maps]).float()
    assert torch.cdist(pool.clean.float(), every).amin(1).max() < 1e-2


def test_the_generator_alone_decides(backbone, images, anomalies):
    maps = backbone(images)
    before = torch.get_rng_state()
    arguments = (backbone, images, maps, anomalies)
    first, again, other = (
        simulate_features(*arguments, n_images=3, generator=seeded(s)) for s in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.corrupted, again.corrupted)
    assert first.corrupted.shape != other.corrupted.shape or not torch.equal(
        first.corrupted, other.corrupted
    )


def test_training_takes_its_random_numbers_from_the_generator(pool):
    first, again, other = (trained(pool, 5, seed=s)[1] for s in (0, 0, 1))
    assert first == again != other


def test_normal_vectors_are_those_of_unchanged_cells(pool):
    normal = pool.normal()
    assert torch.equal(normal.corrupted, normal.clean)
    assert len(normal.labels) == (pool.labels == 0).sum()
    assert normal.draw(2, 30, seeded())[0].shape == (2, 30, D)


def test_noise_has_the_deviations_that_were_asked_for():
    vectors = torch.ones(2, 5000, 50)
    deviations = (noisy(vectors, (0.2, 0.6), seeded()) - vectors).std(-1)
    assert deviations.mean().item() == pytest.approx(0.4, abs=0.02)
    assert 0.1 < deviations.min() < 0.25 and 0.55 < deviations.max() < 0.9


@pytest.mark.parametrize("n_members", [1, 3])
def test_hardened_noise_looks_more_normal_at_the_same_distance(pool, n_members):
    nets, _ = trained(pool, n_members=n_members)
    origins = pool.normal().draw(n_members, 500, seeded())[0]
    noise = noisy(origins, (0.5, 1.0), seeded())
    nets.train().zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in nets.state_dict().items()}
    harder = hardened(nets, noise, origins, 2, 0.3)
    assert all(module.training for module in nets.modules())
    assert all(torch.equal(value, before[name]) for name, value in nets.state_dict().items())
    assert all(p.grad is None for p in nets.parameters())
    radii = [torch.linalg.vector_norm(x - origins, dim=-1) for x in (noise, harder)]
    torch.testing.assert_close(radii[0], radii[1])
    logits = [reconstruct_and_judge(nets.eval(), x)[1].mean((1, 2)) for x in (noise, harder)]
    assert (logits[1] < logits[0]).all()


def test_no_steps_are_plain_noise(pool):
    nets, _ = trained(pool, 1)
    x = torch.randn(1, 4, D)
    assert torch.equal(hardened(nets, x, torch.zeros_like(x), 0, 0.3), x)


@pytest.mark.parametrize("adversarial_weight", [0.0, 0.001])
@pytest.mark.parametrize("n_members", [1, 2])
def test_the_modules_learn(pool, n_members, adversarial_weight):
    nets, history = trained(pool, 80, n_members, adversarial_weight=adversarial_weight)
    assert history[-1]["reconstruction"] < 0.7 * history[0]["reconstruction"]
    assert history[-1]["discriminant"] < 0.8 * history[0]["discriminant"]
    assert ("discriminators" in history[0]) == (adversarial_weight > 0)
    corrupted, clean, labels = pool.draw(n_members, 1000, seeded())
    restored, logits = reconstruct_and_judge(nets, corrupted)
    is_anomalous = labels > 0.5
    assert logits[..., 0][is_anomalous].mean() > logits[..., 0][~is_anomalous].mean() + 1
    # What is anomalous is given back as it was without.
    before = (corrupted - clean)[is_anomalous].square().mean()
    assert (restored - clean)[is_anomalous].square().mean() < 0.5 * before


@pytest.mark.parametrize("adversarial_weight", [0.0, 0.001])
def test_the_discriminant_learns_alone(pool, adversarial_weight):
    nets, history = trained(pool, 60, restores=False, adversarial_weight=adversarial_weight)
    assert "reconstruction" not in history[0]
    assert history[-1]["discriminant"] < 0.8 * history[0]["discriminant"]
    logits, difference = judge_maps(nets, torch.zeros(1, D, 2, 2))
    assert logits.max() < 0 and (difference == 0).all()


def test_members_learn_apart(pool):
    together = trained(pool, 3, n_members=2)[0]
    x = torch.randn(1, 10, D).expand(2, -1, -1)
    first, second = reconstruct_and_judge(together, x)[1]
    assert not torch.allclose(first, second)


def test_maps_are_judged_cell_by_cell(pool):
    nets, _ = trained(pool, 3, n_members=2)
    maps = torch.randn(4, D, 5, 3, generator=seeded())
    logits, difference = judge_maps(nets, maps, 2)
    assert logits.shape == difference.shape == (2, 4, 5, 3)
    vector = maps[2, :, 4, 1].expand(2, 1, D)
    restored, logit = reconstruct_and_judge(nets, vector)
    torch.testing.assert_close(logits[:, 2, 4, 1], logit.flatten())
    torch.testing.assert_close(difference[:, 2, 4, 1], (vector - restored).abs().mean((1, 2)))


@pytest.fixture
def joined(pool):
    nets, _ = trained(pool, 30)
    normal = torch.randn(12, D, 8, 6, generator=seeded())
    bank = PatchBank.of(normal[:8], 200, generator=seeded())
    return nets, FeatureScore.of(nets, bank, normal[8:]), normal


def test_maps_and_scores_find_what_is_anomalous(joined):
    nets, score, normal = joined
    anomalous = normal.clone()
    anomalous[:, :, 2:5, 1:4] += 3
    (map_before, before), (map_after, after) = score(nets, normal), score(nets, anomalous)
    assert map_after.shape == (12, 8, 6) and after.shape == (12,)
    assert (after > before).all()
    rises = map_after - map_before
    assert rises[:, 3, 2].mean() > 5 * rises[:, 7, 5].mean().abs()


def test_all_parts_have_one_scale_on_images_kept_aside(joined):
    nets, score, normal = joined
    for found in score(nets, normal[8:]):
        assert found.mean().abs() < 1e-3
        # The sum of two of deviation 1, which may go together or against each other.
        assert 0.1 < found.std(correction=0) <= 2.01


def test_one_image_kept_aside_is_enough_to_go_on(joined):
    nets, score, normal = joined
    maps, scores = FeatureScore.of(nets, score.bank, normal[:1])(nets, normal)
    assert maps.isfinite().all() and scores.isfinite().all()


def test_images_of_several_shapes_are_kept_aside(joined):
    nets, score, normal = joined
    other = FeatureScore.of(nets, score.bank, [normal[8], normal[9, :, :5], normal[10, :, :, :3]])
    assert other(nets, normal[:, :, :7])[0].shape == (12, 7, 6)


def test_members_are_averaged(pool):
    nets, _ = trained(pool, 3, n_members=2)
    maps = torch.randn(4, D, 8, 8, generator=seeded())
    score = FeatureScore.of(nets, PatchBank.of(maps, 50, generator=seeded()), maps, 2)
    assert score(nets, maps, 2)[1].shape == (4,)


def test_the_score_is_saved_and_loaded(joined):
    nets, score, normal = joined
    n, d = score.bank.references.shape
    places = (score.probability_place, score.distance_place)
    again = FeatureScore(PatchBank(n, d), *(PlaceCalibration(p.mean.shape) for p in places))
    again.load_state_dict(score.state_dict())
    for found, expected in zip(again(nets, normal), score(nets, normal), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_whole_path_is_exported(joined, backbone, images):
    class Path(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, (self.nets, self.score, _) = backbone, joined

        def forward(self, x):
            return self.score(self.nets, self.backbone(x))

    path = Path()
    dynamic = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(path, (images,), dynamic_shapes=dynamic)
    for found, expected in zip(program.module()(images[:3]), path(images[:3]), strict=True):
        torch.testing.assert_close(found, expected)
