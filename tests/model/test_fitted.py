"""The fitted model: blocks, references, labels, devices, and what "auto" stands for."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gandetect import ConvNet, GANomalyDetector
from gandetect.data.sources import Layout, read
from gandetect.model.fitted import (
    WORST_SCORE,
    Model,
    own_torch_settings,
    resolve_device,
    thinned,
)
from gandetect.model.statistics import Neighbours, Scaler, draws
from tests.helpers import one_detector

CPU = torch.device("cpu")


def unfitted(Detector, shape, **parameters):
    """The model of samples of this shape, without weights."""
    settings = Detector(**parameters)._settings()
    layout = read(settings, np.random.default_rng(0).normal(size=(4, *shape))).layout
    vars(settings).update(Detector.model_class.resolved(settings, layout))
    scaler = Scaler("none", np.zeros(1), np.ones(1))
    return Detector.model_class.empty(settings, layout, scaler)


@pytest.mark.parametrize("shape", [(7,), (8, 9)])
class TestAuto:
    @one_detector
    def test_numbers_are_themselves(self, Detector, shape):
        model = unfitted(Detector, shape, n_estimators=3, latent_dim=5, epochs=7, batch_size=3)
        found = (model.n_members, model.latent_dim, model.n_epochs(100), model.batch_size())
        assert found == (3, 5, 7, 3)

    def test_auto_is_what_the_documentation_says(self, Detector, shape):
        model = unfitted(Detector, shape)
        is_rdna = Detector.__name__ == "RDNADetector"
        assert model.n_members == {1: (8, 4), 2: (2, 1)}[len(shape)][is_rdna]
        assert model.latent_dim == {1: 4, 2: 32}[len(shape)]
        scaling = {1: "unskewed", 2: "unit" if is_rdna else "symmetric"}[len(shape)]
        assert model.settings.scaling == scaling
        assert model.batch_size() == 64 or (is_rdna and 8 <= model.batch_size() <= 16)

    def test_epochs_make_up_the_updates(self, Detector, shape):
        model = unfitted(Detector, shape)
        updates = model.n_updates()
        for n_batches in (1, 7, updates - 1, updates, 10**9):
            assert updates <= model.n_epochs(n_batches) * n_batches < updates + n_batches

    @one_detector
    def test_what_was_resolved_is_not_the_users_parameter(self, Detector, make, shape):
        X = np.random.default_rng(0).normal(size=(6, *shape))
        detector = make(Detector, epochs=1, n_estimators=1, architecture=None, latent_dim="auto")
        if len(shape) > 1:
            detector.set_params(architecture=ConvNet(n_filters=2))
        assert detector.fit(X).latent_dim == "auto"
        assert detector.latent_dim_ == detector.model_.latent_dim > 1


@pytest.mark.parametrize(
    ("n_columns", "n_members"), [(256, (8, 4)), (300, (6, 3)), (512, (4, 2)), (20_000, (2, 1))]
)
def test_wide_rows_have_fewer_members(Detector, n_columns, n_members):
    is_rdna = Detector.__name__ == "RDNADetector"
    assert unfitted(Detector, (n_columns,)).n_members == n_members[is_rdna]


def test_networks_trained_under_attack_have_no_logarithms_by_default(Detector):
    for shape in [(7,), (8, 9)]:
        expected = "standard" if len(shape) == 1 else unfitted(Detector, shape).settings.scaling
        assert unfitted(Detector, shape, robust=0.1).settings.scaling == expected
    given = unfitted(Detector, (7,), robust=0.1, scaling="unskewed")
    assert given.settings.scaling == "unskewed"


def test_a_method_of_one_member_has_one_on_wide_rows(monkeypatch):
    monkeypatch.setattr(GANomalyDetector.model_class, "auto_members", (1, 1))
    assert unfitted(GANomalyDetector, (20_000,)).n_members == 1


@one_detector
def test_the_code_of_one_column_has_one_number(Detector):
    assert unfitted(Detector, (1,)).latent_dim == 1


@pytest.mark.parametrize("n_max", [1, 2, 7, 10, 11])
def test_thinned_rows_are_evenly_spread(n_max):
    rows = np.arange(10) * 3
    kept = thinned(rows, n_max)
    assert len(kept) == min(n_max, 10)
    assert kept[0] == 0
    assert set(kept) <= set(rows)
    if n_max > 1:
        assert kept[-1] == 27
        assert np.diff(kept).max() - np.diff(kept).min() <= 3


@pytest.mark.parametrize(
    ("sample_shape", "size"),
    [
        ((6,), 1024),
        ((512,), 512),
        ((5000,), 48),
        ((20_000,), 16),
        ((10**6,), 16),
        ((1, 1, 1), 64),
        ((1, 28, 28), 64),
        ((5, 64, 48), 16),
        ((3, 256, 256), 8),
        ((3, 2000, 2000), 8),
    ],
)
def test_blocks_of_large_samples_are_small(sample_shape, size):
    multiple = (16, 8)[len(sample_shape) > 1]
    of_this_shape = SimpleNamespace(
        layout=Layout(sample_shape, sample_shape, None), block_multiple=lambda: multiple
    )
    assert Model.block_size(of_this_shape) == size


class TestInBlocks:
    """What comes out for a sample hangs neither on its place nor on its neighbours."""

    @pytest.fixture
    def computed(self, fitted_and_X):
        detector, X = fitted_and_X
        model = detector.model_
        source = read(model.settings, X, model.layout)

        def compute(what, rows=None):
            function = {
                "scores": model.score,
                "codes": lambda x: model.encode(x).transpose(0, 1).flatten(1),
                "reconstructions": lambda x: model.reconstruct(x).transpose(0, 1).flatten(1),
                "maps": lambda x: model.anomaly_map(x).transpose(0, 1).flatten(1),
            }[what]
            return model.in_blocks(function, source, rows)

        return compute, len(X)

    @pytest.mark.parametrize("what", ["scores", "codes", "reconstructions", "maps"])
    @one_detector
    def test_alone_permuted_and_in_batches(self, computed, what, monkeypatch):
        compute, n = computed
        together = compute(what)
        assert len(together) == n
        np.testing.assert_array_equal(compute(what), together)
        order = np.random.default_rng(0).permutation(n)
        np.testing.assert_allclose(compute(what, order), together[order], rtol=1e-5, atol=1e-5)
        for i in (0, n // 2, n - 1):
            alone = compute(what, np.array([i]))
            np.testing.assert_allclose(alone, together[[i]], rtol=1e-5, atol=1e-5)
        monkeypatch.setattr(Model, "block_size", lambda model: 7)
        np.testing.assert_allclose(compute(what), together, rtol=1e-5, atol=1e-5)

    @one_detector
    def test_gradients_and_the_users_settings_have_no_part(self, fitted_to_rows, rows):
        expected = fitted_to_rows.anomaly_score(rows)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            np.testing.assert_array_equal(fitted_to_rows.anomaly_score(rows), expected)
        with torch.enable_grad():
            np.testing.assert_array_equal(fitted_to_rows.anomaly_score(rows), expected)


class TestOwnTorchSettings:
    def test_as_if_nothing_had_been_set_and_then_as_before(self):
        x = torch.ones(2, 2)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            with own_torch_settings(CPU, training=True):
                assert not torch.is_inference_mode_enabled()
                assert torch.is_grad_enabled()
                assert (x @ x).dtype == torch.float32
                assert torch.empty(1).device == CPU
            with own_torch_settings(CPU):
                assert not torch.is_grad_enabled()
            assert torch.is_inference_mode_enabled()
            assert (x @ x).dtype == torch.bfloat16
            assert torch.empty(1).is_meta


class TestLabels:
    @one_detector
    def test_a_score_that_exceeds_the_threshold_by_rounding_is_an_inliers(self, fitted_to_rows):
        model = fitted_to_rows.model_.with_threshold(2.0)
        scores = 2 + torch.tensor([-1, 0, 0.5, 2, 1e6]).double() * model.score_tolerance
        assert model.label(scores).tolist() == [1, 1, 1, -1, -1]
        assert (model.decision(scores) == 0).tolist() == [False, True, True, False, False]
        assert fitted_to_rows.threshold_ != 2.0

    @pytest.mark.parametrize("threshold", [0.5, 3e6, -4e4])
    @one_detector
    def test_the_rounding_is_that_of_scores_as_large_as_the_threshold(
        self, fitted_to_rows, threshold
    ):
        model = fitted_to_rows.model_.with_threshold(threshold)
        assert model.score_tolerance == pytest.approx(1e-5 * max(1, abs(threshold)))

    def test_scores_that_are_no_finite_numbers_are_the_worst(self):
        scores = torch.tensor([1.0, math.nan, math.inf, -math.inf, -1e300]).double()
        assert Model.finite(scores).tolist() == [1.0, *[WORST_SCORE] * 4]


@one_detector
def test_what_was_changed_in_a_copy_leaves_the_model_alone(fitted_to_rows, rows):
    model = fitted_to_rows.model_
    before = {name: w.clone() for name, w in model.networks.state_dict().items()}
    other = model.copied(model.settings)
    for p in other.networks.parameters():
        p.data.zero_()
    other.train()
    assert not any(network.training for network in model.networks.values())
    for name, w in model.networks.state_dict().items():
        assert torch.equal(w, before[name]), name


@one_detector
def test_more_rows_than_are_calibrated_on(Detector, make, rows, monkeypatch):
    monkeypatch.setattr("gandetect.model.fitted._MOST_CALIBRATED", 100)
    monkeypatch.setattr("gandetect.training.loop._MAX_REFERENCES", 30)
    detector = make(Detector, epochs=1).fit(rows)
    assert abs((detector.predict(rows) == -1).mean() - 0.1) < 0.06


class TestNeighbours:
    @pytest.mark.parametrize("n_references", [2, 30, 2000])
    def test_training_rows_are_calibrated_without_themselves(self, rows, monkeypatch, n_references):
        monkeypatch.setattr("gandetect.training.loop._MAX_REFERENCES", n_references)
        detector = GANomalyDetector(epochs=2, n_estimators=1, random_state=0, score="neighbours")
        detector.fit(rows[:60])
        codes = torch.from_numpy(detector.transform(rows[:60])).double()
        distances = torch.cdist(codes, codes)
        references = thinned(np.arange(60), n_references)
        n_nearest = min(5, len(references) - 1)

        def without_itself(i, spreads):
            others = [j for j in references if j != i]
            return (distances[i, others] / spreads[others].sqrt()).sort().values[:n_nearest].mean()

        spreads = torch.ones(60).double()
        spreads[references] = torch.stack([without_itself(i, spreads) for i in references])
        expected = np.mean([without_itself(i, spreads) for i in range(60)])
        found = detector.calibration_.mean["neighbours"]
        np.testing.assert_allclose(found, [expected], rtol=1e-3)

    def test_samples_themselves_may_be_the_neighbours(self, rows):
        """By hand, where the networks do not matter; the members are alike."""
        detector = GANomalyDetector(
            epochs=1, n_estimators=2, random_state=0, score="sample_neighbours"
        ).fit(rows[:60])
        assert set(detector.neighbours_) == {"sample_neighbours"}
        x = detector.scaler_(rows)[None]
        distance = Neighbours.of(x[:, :60], order=1.0).distance(x)[0].double()
        own = distance[:60]
        expected = (distance - own.mean()) / own.std(correction=0)
        np.testing.assert_allclose(detector.anomaly_score(rows), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(detector.score_std(rows), np.zeros(len(rows)))

    def test_of_small_draws_of_samples_the_mean_counts(self, rows):
        detector = GANomalyDetector(
            epochs=1, n_estimators=2, random_state=0, score="subsampled_neighbours"
        ).fit(rows[:60])
        assert detector.neighbours_["subsampled_neighbours"].points.shape[:2] == (16, 7)
        x = detector.scaler_(rows)[None]
        distance = Neighbours.plain(x[0, draws(60)]).distance(x).mean(0).double()
        own = distance[:60]
        expected = (distance - own.mean()) / own.std(correction=0)
        np.testing.assert_allclose(detector.anomaly_score(rows), expected, rtol=1e-5, atol=1e-5)

    def test_images_are_compared_pixel_by_pixel(self, rows):
        images = rows[:60, :4].reshape(60, 2, 2).repeat(4, axis=1).repeat(4, axis=2)
        detector = GANomalyDetector(
            epochs=1, n_estimators=1, random_state=0, score="sample_neighbours"
        ).fit(images)
        assert detector.neighbours_["sample_neighbours"].points.shape == (1, 60, 64)
        assert np.isfinite(detector.anomaly_score(images)).all()

    def test_new_rows_far_from_all_are_far(self, rows):
        detector = GANomalyDetector(epochs=2, n_estimators=2, random_state=0, score="neighbours")
        detector.fit(rows[:60])
        near, far = detector.anomaly_score(rows[:60]), detector.anomaly_score(rows[:60] + 20)
        assert far.min() > near.max()


class TestDiscriminatorFeatures:
    def test_one_row_a_sample_in_any_batch(self, fitted_and_X):
        detector, X = fitted_and_X
        if "discriminator" not in detector.networks_:
            with pytest.raises(TypeError, match="has no features of a discriminator"):
                detector.discriminator_features(X)
            return
        features = detector.discriminator_features(X)
        assert features.shape[0] == len(X)
        assert features.ndim == 2 and np.isfinite(features).all()
        assert features.std(axis=0).max() > 0
        some = detector.discriminator_features(X[5:7])
        np.testing.assert_allclose(some, features[5:7], rtol=1e-5, atol=1e-5)

    def test_those_of_the_members_stand_side_by_side(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=2, random_state=0).fit(rows[:60])
        x = detector.scaler_(rows[:9]).expand(2, 9, 6)
        with torch.inference_mode():
            _, expected = detector.networks_["discriminator"](x)
        features = detector.discriminator_features(rows[:9])
        np.testing.assert_allclose(features, torch.cat([*expected], dim=1), rtol=1e-5, atol=1e-6)


class TestResolveDevice:
    @pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
    def test_the_cpu(self, device):
        assert resolve_device(device) == CPU

    @pytest.mark.parametrize(
        ("cuda", "mps", "expected"),
        [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
    )
    def test_auto(self, monkeypatch, cuda, mps, expected):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        assert resolve_device("auto").type == expected

    @pytest.mark.parametrize(
        ("name", "there"), [("cuda", True), ("cuda:1", True), ("cuda:2", False)]
    )
    def test_several_gpus(self, monkeypatch, name, there):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        if there:
            assert resolve_device(name) == torch.device(name)
        else:
            with pytest.raises(ValueError, match="'cuda:2' is not available"):
                resolve_device(name)

    @pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "xpu", "vulkan"])
    def test_not_on_this_machine(self, monkeypatch, name):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(ValueError, match=r"not available .*: use device='auto' or 'cpu'"):
            resolve_device(name)

    @pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU 1"])
    def test_unknown_names(self, name):
        with pytest.raises(ValueError, match=r"Unknown device .*: use 'auto'"):
            resolve_device(name)

    @pytest.mark.parametrize("device", [0, None, b"cpu", ["cpu"]])
    def test_what_is_no_name(self, device):
        with pytest.raises(TypeError, match="device must be a string"):
            resolve_device(device)
