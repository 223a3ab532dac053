"""What is special to RDNA: its losses, its simulated anomalies, its maps."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_sample_images
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from gandetect import Checkpoint, ConvNet, RDNADetector
from gandetect.data.sources import blocks, read
from gandetect.detectors import rdna
from gandetect.losses import focal_loss, structural_similarity
from gandetect.model.statistics import Scaler
from gandetect.training import current_run
from tests.helpers import needs_callbacks

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 6))
IMAGES = RNG.integers(0, 256, size=(20, 12, 20, 3)).astype(np.uint8)
TINY = ConvNet(n_filters=4)


def make(X, **parameters):
    architecture = TINY if X.ndim > 2 else None
    return RDNADetector(
        **{"epochs": 2, "random_state": 0, "architecture": architecture} | parameters
    )


def fitted(X, **parameters):
    return make(X, **parameters).fit(X)


def batch(detector, X):
    return detector.scaler_(np.moveaxis(X, -1, 1) if X.ndim > 2 else X)[None]


class TestLosses:
    @pytest.mark.parametrize("adversarial_weight", [0.0, 0.1])
    def test_their_names_and_shapes(self, in_training, adversarial_weight):
        detector = make(IMAGES, adversarial_weight=adversarial_weight, anomaly_probability=1.0)
        model, run, x = in_training(detector, IMAGES)
        losses = model.training_step(x, run)
        assert {"reconstruction", "similarity", "discriminant"} <= set(losses)
        assert ("adversarial" in losses) == bool(adversarial_weight)
        assert all(loss.shape == (1, 20) for loss in losses.values())

    def test_they_are_draems(self, in_training):
        model, run, x = in_training(make(IMAGES, adversarial_weight=0), IMAGES)
        run.random.generator.manual_seed(3)
        x_corrupted, mask = model.corrupted(run.prepared, x, run.random)
        with torch.no_grad():
            x_hat = model.reconstructor(x_corrupted)
            logits = model.discriminant(x_corrupted, x_hat, (x_corrupted - x_hat).abs())
            expected = {
                "reconstruction": F.mse_loss(x_hat, x),
                "similarity": 1 - structural_similarity(x, x_hat).mean(),
                "discriminant": focal_loss(logits, mask).mean(),
            }
        run.random.generator.manual_seed(3)
        losses = model.training_step(x, run)
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(losses[name].mean(), value)

    def test_the_discriminants_loss_teaches_the_reconstructor_too(self, in_training):
        model, _, x = in_training(make(IMAGES, similarity_weight=0), IMAGES)
        _, logits = model.restored_and_judged(x)
        logits.sum().backward()
        assert all(p.grad is not None for p in model.reconstructor.parameters())

    def test_rows_have_no_similarity(self):
        assert set(fitted(ROWS).history_[0]) == {
            "epoch",
            "reconstruction",
            "discriminant",
            "adversarial",
            "discriminators",
        }


class TestWithoutAdversaries:
    """Weight 0 is DRAEM: nothing is built, and nothing drawn, for the adversarial part."""

    @pytest.mark.parametrize("X", [ROWS, IMAGES], ids=["rows", "images"])
    def test_no_discriminator(self, in_training, X):
        model, run, _ = in_training(make(X, adversarial_weight=0), X)
        assert set(model.networks) == {"reconstructor", "discriminant"}
        assert set(run.optimizers) == {"modules"}

    @pytest.mark.parametrize("X", [ROWS, IMAGES], ids=["rows", "images"])
    def test_before_its_warm_up_the_adversarial_part_changes_nothing(self, in_training, X):
        (plain, plain_run, x), (other, run, _) = (
            in_training(make(X, adversarial_weight=weight), X) for weight in (0.0, 1.0)
        )
        start = plain.networks.state_dict()
        other.networks.load_state_dict(start, strict=False)
        run.prepared = plain_run.prepared
        state = run.random.state()
        moved = []
        for model, its_run in ((plain, plain_run), (other, run)):
            if run.prepared is not None:
                its_run.prepared.generator = its_run.random.generator
            its_run.random.set_state(state)
            model.training_step(x, its_run)
            moved.append(model.networks.state_dict())
        for name in start:
            assert torch.equal(moved[0][name], moved[1][name]), name


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0), (0.05, 0.25), (0.1, 0.5), (0.2, 1), (1.0, 1)]
)
def test_the_adversarial_weight_rises_over_the_first_fifth(
    in_training, monkeypatch, progress, share
):
    model, run, x = in_training(make(ROWS, adversarial_weight=0.3, focal_weight=2.0), ROWS)
    run.progress, updates = progress, []
    monkeypatch.setattr(rdna, "update", lambda _, loss, **__: updates.append(loss.detach()))
    losses = model.training_step(x, run)
    without = losses["reconstruction"] + 2 * losses["discriminant"]
    torch.testing.assert_close(updates[0], without + 0.3 * share * losses["adversarial"])


class TestMaxTime:
    def test_it_stops_and_says_so(self):
        detector = fitted(ROWS, epochs="auto", max_time=0.01)
        assert detector.stop_reason_.startswith("max_time=0.01 reached after epoch")
        assert 1 <= detector.n_iter_ < 1000

    def test_the_epochs_may_end_first(self):
        detector = fitted(ROWS, max_time=1000)
        assert detector.n_iter_ == 2
        assert detector.stop_reason_ == "all epochs done"

    def test_the_learning_rate_falls_with_the_time(self, in_training):
        model, run, _ = in_training(make(ROWS, max_time=100), ROWS)
        for run.seconds, run.progress, expected in (
            (50.0, 0.2, 0.5),
            (50.0, 0.7, 0.7),
            (500.0, 0.2, 1.0),
        ):
            assert model.progress(run) == expected

    def test_the_time_that_is_left_is_shown(self, capsys):
        # A hundred thousand epochs are possible, of which the time permits few.
        detector = fitted(ROWS, epochs="auto", max_time=0.5, verbose=1)
        n_epochs = len(detector.history_)
        assert f"{n_epochs}/{n_epochs} [" in capsys.readouterr().err

    @pytest.mark.parametrize("max_time", [0, -1.0, float("nan"), "1 h"])
    def test_it_is_checked(self, max_time):
        with pytest.raises((TypeError, ValueError), match="max_time"):
            RDNADetector(max_time=max_time).fit(ROWS)


@needs_callbacks
@pytest.mark.parametrize("X", [ROWS, IMAGES], ids=["rows", "images"])
def test_a_resumed_training_sees_the_same_anomalies(X, tmp_path, monkeypatch):
    through = fitted(X, epochs=4)
    detector = RDNADetector(
        epochs=4, random_state=0, architecture=through.architecture
    ).set_callbacks(Checkpoint(tmp_path / "run"))
    with monkeypatch.context() as patch:
        step = RDNADetector.model_class.training_step

        def interrupted(self, *arguments):
            if len(current_run().history) == 2:
                raise RuntimeError("the power fails")
            return step(self, *arguments)

        patch.setattr(RDNADetector.model_class, "training_step", interrupted)
        with pytest.raises(RuntimeError, match="the power fails"):
            detector.fit(X)
    detector.fit(X)
    assert detector.history_ == through.history_
    np.testing.assert_array_equal(detector.anomaly_score(X), through.anomaly_score(X))


class TestSimulate:
    @pytest.mark.parametrize("X", [ROWS, IMAGES, IMAGES[..., 0]], ids=["rows", "rgb", "gray"])
    def test_only_what_the_mask_says_is_changed(self, X):
        simulated, masks = RDNADetector().simulate(X, random_state=0)
        assert simulated.shape == X.shape
        assert masks.shape == X.shape[:3]
        changed = np.abs(simulated - X)
        if X.ndim == 4:
            changed = changed.max(axis=-1)
        assert changed[masks == 0].max() < (0.3 if X is ROWS else 1e-3)
        assert 0.2 < masks.reshape(len(X), -1).any(axis=1).mean() < 0.8

    def test_it_repeats(self):
        detector = RDNADetector()
        first, again, other = (detector.simulate(ROWS, random_state=seed)[0] for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_images_come_in_the_size_of_the_networks(self):
        simulated, masks = RDNADetector(image_size=10).simulate(IMAGES)
        assert simulated.shape == (20, 6, 10, 3)
        assert masks.shape == (20, 6, 10)

    def test_nothing_is_learned(self):
        detector = RDNADetector()
        before = dict(vars(detector))
        detector.simulate(IMAGES)
        assert vars(detector) == before


class TestImageSize:
    @pytest.mark.parametrize(
        ("image_size", "shape", "expected"),
        [
            ("auto", (100, 200), (32, 64)),
            ("auto", (50, 64), (50, 64)),
            (None, (20, 90), (20, 90)),
            (50, (100, 200), (25, 50)),
            (500, (20, 90), (20, 90)),
            (1, (100, 200), (1, 1)),
        ],
    )
    def test_what_it_comes_to(self, image_size, shape, expected):
        images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3)).astype(np.uint8)
        simulated, _ = RDNADetector(image_size=image_size).simulate(images)
        assert simulated.shape == (2, *expected, 3)

    def test_answers_come_in_the_size_of_x(self):
        detector = fitted(IMAGES, image_size=10)
        assert detector.anomaly_map(IMAGES).shape == (20, 12, 20)
        assert detector.reconstruct(IMAGES).shape == IMAGES.shape

    def test_small_images_come_in_larger_batches(self, in_training):
        for side, size in [(8, 16), (52, 12), (64, 8), (256, 8)]:
            images = np.random.default_rng(0).random((2, side, side))
            model, _, _ = in_training(make(images), images, 2)
            assert model.batch_size() == size

    @pytest.mark.parametrize(
        ("n_columns", "size"), [(6, 64), (8192, 64), (8193, 63), (20_000, 26), (40_000, 16)]
    )
    def test_wide_rows_come_in_smaller_batches(self, in_training, n_columns, size):
        rows = np.random.default_rng(0).normal(size=(4, n_columns))
        assert in_training(make(rows), rows)[0].batch_size() == size
        assert in_training(make(rows, batch_size=3), rows)[0].batch_size() == 3


def test_the_map_is_where_both_modules_agree():
    for X in (IMAGES, ROWS):
        detector = fitted(X, n_estimators=1)
        x = batch(detector, X)
        with torch.no_grad():
            x_hat, logits = detector.model_.restored_and_judged(x)
        difference = (x - x_hat).abs()[0].numpy()
        difference = difference.mean(axis=1) if X.ndim == 4 else difference
        expected = np.sqrt(difference) / (1 + np.exp(-logits[0].numpy())) ** 2
        np.testing.assert_allclose(detector.anomaly_map(X), expected, rtol=1e-3, atol=1e-7)


def test_the_score_of_images_is_the_largest_mean_over_a_square():
    images = IMAGES.repeat(3, axis=1).repeat(3, axis=2)
    detector = fitted(images, score="map")
    # 11 of 256 pixels are 2.6 of 60.
    maps = np.pad(detector.anomaly_map(images), [(0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
    by_hand = windows.mean(axis=(3, 4)).max(axis=(1, 2))
    calibration = detector.calibration_
    by_hand = (by_hand - calibration.mean["map"].item()) / calibration.spread["map"].item()
    np.testing.assert_allclose(detector.anomaly_score(images), by_hand, rtol=1e-3, atol=1e-3)


def test_mixed_precision_trains_and_scores_in_full():
    detector = fitted(IMAGES, mixed_precision=True)
    assert all(np.isfinite(value) for value in detector.history_[-1].values())
    assert all(p.dtype == torch.float32 for p in detector.networks_.parameters())


@pytest.mark.parametrize("name", ["laptop", "gpu", "paper"])
def test_presets(name):
    detector = RDNADetector.preset(name, random_state=3, epochs=7)
    detector.check_parameters()
    assert detector.image_size in (64, 256)
    assert detector.random_state == 3
    assert detector.epochs == 7


@pytest.mark.parametrize(("name", "millions"), [("laptop", 1.6), ("gpu", 4.5), ("paper", 72.4)])
def test_presets_have_as_many_weights_as_is_said(name, millions):
    assert "1.6, 4.5 and 72.4 million weights" in " ".join(RDNADetector.preset.__doc__.split())
    photographs = np.tile(np.array([0, 255], np.uint8)[:, None, None, None], (1, 256, 256, 3))
    detector = RDNADetector.preset(name)
    source = read(detector, photographs)
    vars(detector).update(rdna.RDNAModel.resolved(detector, source.layout))
    scaler = Scaler.fitted(detector.scaling, blocks(source), True)
    networks = rdna.RDNAModel.empty(detector, source.layout, scaler).networks
    weights = [
        *networks["reconstructor"].parameters(),
        *networks["discriminant"].parameters(),
    ]
    assert sum(w.numel() for w in weights) == pytest.approx(1e6 * millions, abs=5e4)


def test_published_augmentation_turns_normal_images_too(in_training):
    images = np.full((200, 12, 12, 3), 200, np.uint8)
    detector = make(images, augment="published", adversarial_weight=0)
    model, run, x = in_training(detector, images)
    normal, _, _ = model.examples(x, run)
    has_corners = (normal[0] == 0).flatten(1).any(1)
    assert 0.15 < has_corners.float().mean() < 0.45
    assert (normal == x).flatten(2).all(2).float().mean() > 0.55
    model.training_step(x, run)
    simulated, masks = detector.simulate(images, random_state=0)
    assert (simulated[:, 0, 0] == 0).any() and masks.any()
    model, run, x = in_training(make(images), images)
    assert torch.equal(model.examples(x, run)[0], x)
    assert RDNADetector.preset("paper").augment == "published"


def test_an_unknown_preset():
    with pytest.raises(ValueError, match="laptop"):
        RDNADetector.preset("watch")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 0),
        ("image_size", 2.5),
        ("anomaly_probability", 0),
        ("anomaly_probability", 1.1),
        ("opacity", 0.5),
        ("opacity", (0.6, 0.5)),
        ("opacity", (0.5, 1.5)),
        ("mask_scales", (0, 2.5)),
        ("adversarial_weight", -1),
        ("similarity_weight", "much"),
        ("focal_gamma", float("inf")),
        ("schedule", "linear"),
        ("augment", "yes"),
        ("mixed_precision", "fp16"),
        ("anomaly_source", "textures"),
    ],
)
def test_parameters_are_checked(name, value):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=name):
        RDNADetector(**{name: value}).fit(ROWS)


class TestOnRealData:
    def test_every_part_is_larger_for_rows_with_wrong_cells(self):
        X, y = load_breast_cancer(return_X_y=True)
        benign = X[y == 1]
        parts = dict.fromkeys(RDNADetector.part_weights, 1.0)
        detector = RDNADetector(epochs=30, n_estimators=2, score=parts, random_state=0)
        detector.fit(benign[:250])
        spoilt = benign[250:].copy()
        spoilt[:, [3, 11, 20]] += 5 * benign.std(axis=0)[[3, 11, 20]]
        judged = np.concatenate([benign[250:], spoilt])
        for part in parts:
            detector.set_params(score=part)
            scores = detector.anomaly_score(judged)
            assert roc_auc_score(np.arange(len(judged)) >= len(spoilt), scores) > 0.6, part

    def test_the_planted_cell_ranks_first(self):
        X, y = load_breast_cancer(return_X_y=True)
        benign = X[y == 1]
        detector = RDNADetector(epochs=30, n_estimators=2, random_state=0).fit(benign[:250])
        rows, columns = benign[250:].copy(), np.arange(len(benign) - 250) % 30
        rows[np.arange(len(rows)), columns] += 4 * benign.std(axis=0)[columns]
        assert (detector.anomaly_map(rows).argmax(axis=1) == columns).mean() > 0.8

    def test_a_made_defect_on_a_photograph(self):
        photograph = load_sample_images().images[1][::4, ::4]
        tops, lefts = range(0, 90, 3), range(0, 144, 6)
        patches = np.stack([photograph[i : i + 16, j : j + 16] for i in tops for j in lefts])
        patches = np.random.default_rng(0).permutation(patches)
        detector = RDNADetector(epochs=8, architecture=ConvNet(n_filters=8), random_state=0)
        detector.fit(patches[:300])
        spoilt = patches[500:550].copy()
        spoilt[:, 5:10, 6:11] = [255, 0, 255]
        maps = detector.anomaly_map(spoilt)
        inside = np.zeros((16, 16), dtype=bool)
        inside[5:10, 6:11] = True
        assert maps[:, inside].mean() > 3 * maps[:, ~inside].mean()
        scores = detector.anomaly_score(np.concatenate([patches[500:550], spoilt]))
        assert roc_auc_score(np.arange(100) >= 50, scores) > 0.9


class TestPublishedMapAndScore:
    def test_the_map_is_the_probability(self):
        detector = fitted(IMAGES)
        product = detector.anomaly_map(IMAGES)
        probability = detector.set_params(map="probability").anomaly_map(IMAGES)
        model = detector.model_
        with torch.no_grad():
            x = torch.from_numpy(IMAGES.astype(np.float32))
            x = model.scaler(x.movedim(-1, 1) if x.ndim == 4 else x[:, None])[None]
            _, logits = model.restored_and_judged(x)
        expected = torch.sigmoid(logits).mean(0).numpy()
        np.testing.assert_allclose(probability, expected, atol=1e-5)
        assert not np.allclose(product, probability, atol=1e-3)

    def test_the_paper_score_smooths_over_21_of_256_pixels(self):
        maps = torch.zeros(1, 2, 256, 256)
        maps[0, 0, 100:121, 50:71] = 1.0
        maps[0, 1, 100:111, 50:61] = 1.0
        published = rdna._largest_mean(maps, rdna._PUBLISHED_SMOOTHED)
        torch.testing.assert_close(published, torch.tensor([[1.0, (11 / 21) ** 2]]))
        torch.testing.assert_close(rdna._largest_mean(maps), torch.ones(1, 2))

    def test_an_unknown_map_is_refused(self):
        with pytest.raises(ValueError, match="map must be one of"):
            RDNADetector(map="softmax").fit(ROWS)
