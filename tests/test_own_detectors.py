"""Methods of one's own, as the gallery and CONTRIBUTING.md write them, keep every promise too."""

import importlib.util
import pickle
import re
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

import gandetect
from gandetect import BaseDetector, EarlyStopping, ExponentialMovingAverage
from gandetect.export import load_onnx, to_onnx, to_torch_export
from gandetect.model import Model
from tests.helpers import needs_callbacks, needs_export

ROOT = Path(__file__).parents[1]


def as_module(name, code):
    """A module of this code, by whose name pickle finds the classes in it."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(code, name, "exec"), vars(module))
    return module


def of_example(name):
    """The classes of an example, without the cells that fit and draw."""
    cells = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8").split("# %%\n")
    return as_module(name, "".join(cell for cell in cells if "class " in cell))


def of_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return as_module("contributing_example", code)


DETECTORS = [
    of_example("plot_write_your_own_detector").AdversarialAutoencoderDetector,
    of_example("plot_anogan_by_gradient_search").AnoGANDetector,
    of_contributing().DenoiserDetector,
]
AAE, AnoGAN, Denoiser = DETECTORS
# The search for codes takes its time.
QUICK = {"AnoGANDetector": {"n_steps": 5}}


def make_own(Detector, **parameters):
    settings = {"epochs": 2, "n_estimators": 2, "random_state": 0}
    return Detector(**{**settings, **QUICK.get(Detector.__name__, {}), **parameters})


@pytest.fixture(scope="session", params=DETECTORS, ids=lambda cls: cls.__name__)
def Detector(request):
    return request.param


@pytest.fixture(scope="session")
def make():
    return make_own


@pytest.fixture(scope="session")
def fitted_to_rows(Detector, rows):
    return make_own(Detector).fit(rows[:200])


@pytest.fixture(scope="session")
def fitted_to_images(Detector, images, tiny_convnet):
    return make_own(Detector, architecture=tiny_convnet, latent_dim=4).fit(images[:60])


@pytest.fixture(params=["rows", "images"])
def fitted_and_X(request, fitted_to_rows, rows, fitted_to_images, images):
    if request.param == "rows":
        return fitted_to_rows, rows
    return fitted_to_images, images


@pytest.fixture(scope="session")
def fitted_longer(Detector, rows):
    own = {"n_steps": 25} if Detector is AnoGAN else {}
    settings = {"epochs": 30, "latent_dim": 2, "learning_rate": 3e-3, "batch_size": 32}
    return make_own(Detector, **settings, **own).fit(rows[:200])


@pytest.fixture(scope="session")
def fitted_longer_to_images(Detector, images, tiny_convnet):
    own = {"epochs": 20}
    if Detector is AnoGAN:  # without a reconstruction loss it takes many more updates
        own = {"epochs": 60, "batch_size": 16, "n_steps": 25}
    settings = {"latent_dim": 4, "learning_rate": 3e-3, "architecture": tiny_convnet}
    return make_own(Detector, **settings, **own).fit(images[:100])


def contract():
    """The tests that every detector of the package passes, to be run with these fixtures."""
    path = Path(__file__).with_name("test_contract.py")
    spec = importlib.util.spec_from_file_location("contract_of_own_detectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


for name, value in contract().items():
    if name.startswith("Test"):
        globals()[name] = value


class TestSharedFeatures:
    """What needs no word in the method: it works with part names and losses of any kind."""

    def test_save_and_load_by_its_class(self, fitted_and_X, tmp_path):
        fitted, X = fitted_and_X
        fitted.save(tmp_path / "detector")
        loaded = type(fitted).load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.anomaly_score(X), fitted.anomaly_score(X))
        assert loaded.get_params() == fitted.get_params()
        with pytest.raises(gandetect.ArchiveError, match=type(fitted).__name__):
            gandetect.load(tmp_path / "detector")

    def test_pickle(self, fitted_and_X):
        fitted, X = fitted_and_X
        opened = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(opened.anomaly_score(X), fitted.anomaly_score(X))

    def test_trim_leaves_out_anomalies_in_the_training(self, Detector, rows):
        contaminated = np.concatenate([rows[:180], 20 + rows[180:200]])
        detector = make_own(Detector, epochs=10, trim=0.2, contamination=0.1).fit(contaminated)
        assert roc_auc_score(np.arange(200) >= 180, detector.anomaly_score(contaminated)) > 0.99

    @pytest.mark.parametrize("validation_fraction", [0.0, 0.2])
    @needs_callbacks
    def test_early_stopping_on_whatever_losses_there_are(self, Detector, rows, validation_fraction):
        detector = make_own(Detector, epochs=4, validation_fraction=validation_fraction)
        # Nothing falls by so much in an epoch.
        detector.set_callbacks(EarlyStopping(patience=1, min_delta=1e6)).fit(rows[:100])
        assert detector.n_iter_ == 2
        assert detector.stop_reason_.startswith("stopped by a callback")

    def test_validation_gives_its_losses_and_p_values(self, Detector, rows):
        detector = make_own(Detector, validation_fraction=0.3).fit(rows[:100])
        parts = set(detector.model_.parts(detector.scaler_(rows[:2]).expand(2, 2, 6)))
        assert {f"validation_{part}" for part in parts} <= detector.history_[-1].keys()
        p_values = detector.p_value(rows[100:200])
        assert p_values.min() >= 1 / 31
        assert p_values.max() <= 1

    def test_warm_start_goes_on(self, Detector, rows):
        detector = make_own(Detector, epochs=1, warm_start=True).fit(rows[:60])
        before = {n: w.clone() for n, w in detector.networks_.state_dict().items()}
        detector.fit(rows[:60])
        assert [record["epoch"] for record in detector.history_] == [1, 2]
        again = make_own(Detector, epochs=1).fit(rows[:60]).networks_.state_dict()
        assert all(torch.equal(again[name], before[name]) for name in before)
        with pytest.raises(ValueError, match="latent_dim"):
            detector.set_params(latent_dim=1).fit(rows[:60])

    @pytest.mark.parametrize("own", [True, False], ids=["own parts", "neighbours"])
    def test_every_score(self, Detector, rows, own):
        names = {
            name for name in ("paper", *Detector.part_weights) if ("neighbours" not in name) == own
        }
        for score in names:
            detector = make_own(Detector, score=score).fit(rows[:60])
            assert np.isfinite(detector.anomaly_score(rows[:80])).all()
            assert bool(detector.neighbours_) != own

    def test_nothing_of_the_training_samples_is_kept_on_demand(self, Detector, rows):
        detector = make_own(Detector, store_references=False).fit(rows[:60])
        assert not detector.neighbours_
        assert np.isfinite(detector.anomaly_score(rows)).all()

    @needs_callbacks
    def test_averaged_weights(self, Detector, rows):
        averaged = make_own(Detector).set_callbacks(ExponentialMovingAverage(0.9)).fit(rows[:60])
        last = make_own(Detector).fit(rows[:60])
        assert (averaged.anomaly_score(rows) != last.anomaly_score(rows)).any()

    def test_fits_in_threads_give_what_each_gives_alone(self, Detector, rows):
        def scores(seed):
            return make_own(Detector, random_state=seed).fit(rows[:60]).anomaly_score(rows)

        alone = [scores(seed) for seed in range(3)]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(scores, range(3)))
        for expected, found in zip(alone, together, strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_setting_parameters_changes_nothing_that_was_learned(self, Detector, rows):
        detector = make_own(Detector).fit(rows[:60])
        scores = detector.anomaly_score(rows)
        own = set(detector.get_params()) - set(BaseDetector.__init__.__annotations__)
        for name in own:
            value = detector.get_params()[name]
            detector.set_params(**{name: value / 2 if isinstance(value, float) else value + 1})
        np.testing.assert_array_equal(detector.anomaly_score(rows), scores)

    def test_clone_has_the_same_parameters_and_nothing_learned(self, fitted_to_rows):
        copied = clone(fitted_to_rows)
        assert copied.get_params() == fitted_to_rows.get_params()
        assert not hasattr(copied, "model_")


@needs_export
class TestExport:
    def test_it_needs_no_word_in_the_method(self, rows, tmp_path):
        detector = make_own(AAE).fit(rows[:60])
        to_onnx(detector, tmp_path / "detector.onnx", rows[:50])
        scorer = load_onnx(tmp_path / "detector.onnx")
        np.testing.assert_allclose(
            scorer.anomaly_score(rows[:100]), detector.anomaly_score(rows[:100]), atol=1e-4
        )

    @pytest.mark.parametrize("export", [to_onnx, to_torch_export])
    def test_what_cannot_be_exported_says_why(self, export, rows, tmp_path):
        detector = make_own(AnoGAN).fit(rows[:60])
        with pytest.raises(TypeError, match="cannot be exported because its score searches codes"):
            export(detector, tmp_path / "detector", rows[:20])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("export", "steps"),
        [
            (to_torch_export, lambda x: torch.from_numpy(x.numpy())),
            (to_onnx, lambda x: x if x.sum() > 0 else -x),
            (to_onnx, lambda x: torch.special.i0(x)),
        ],
        ids=["numpy", "decision", "operator"],
    )
    def test_what_torch_cannot_translate_says_what_to_do(self, export, steps, rows, tmp_path):
        parts = lambda self, x: {"error": steps(x).mean(-1)}  # noqa: E731
        model_class = type("Untraced", (Denoiser.model_class,), {"parts": parts})
        own = type("UntracedDetector", (Denoiser,), {"model_class": model_class})
        detector = make_own(own, score={"error": 1}).fit(rows[:60])
        with pytest.raises(TypeError, match=r"^UntracedDetector cannot be exported") as raised:
            export(detector, tmp_path / "detector", rows[:20])
        assert "Use " in str(raised.value)
        assert not list(tmp_path.iterdir())


class TestScoresWithGradients:
    """AnoGAN's search, under whatever the user has set in torch."""

    def test_a_longer_search_comes_closer(self, images, tiny_convnet):
        errors = []
        for n_steps in (1, 10, 50):
            detector = make_own(
                AnoGAN, n_steps=n_steps, architecture=tiny_convnet, latent_dim=4, epochs=10
            ).fit(images[:60])
            errors.append(np.abs(detector.reconstruct(images) - images).mean())
        assert errors[0] > errors[1] > errors[2]

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_in_any_mode_of_torch(self, mode, rows):
        detector = make_own(AnoGAN).fit(rows[:60])
        scores = detector.anomaly_score(rows[:40])
        with mode():
            np.testing.assert_array_equal(detector.anomaly_score(rows[:40]), scores)
            of_model, _ = detector.model_(torch.from_numpy(rows[:40]))
        np.testing.assert_allclose(of_model.detach(), scores, rtol=0, atol=1e-5)

    def test_no_gradient_is_left_on_the_networks(self, rows):
        detector = make_own(AnoGAN).fit(rows[:60])
        for parameter in detector.networks_.parameters():
            parameter.grad = None
        detector.anomaly_score(rows)
        assert all(parameter.grad is None for parameter in detector.networks_.parameters())


@pytest.mark.parametrize(
    ("own", "parameters"),
    [
        (AAE, {"reconstruction_weight": -1.0}),
        (AnoGAN, {"feature_weight": 1.5}),
        (AnoGAN, {"n_steps": 0}),
        (Denoiser, {"noise_std": "much"}),
    ],
)
def test_their_parameters_are_checked(own, parameters, rows):
    with pytest.raises((TypeError, ValueError), match=next(iter(parameters))):
        own(**parameters).fit(rows)


def test_shared_parameters_are_documented():
    for own in DETECTORS:
        assert "validation_fraction : float" in own.__doc__


class TestMistakesInAMethod:
    """Hooks that do not fit together are told before any training."""

    @pytest.mark.parametrize(
        ("own", "hook", "wrong", "message"),
        [
            (Denoiser, "parts", lambda self, x: {"mine": x.mean(-1)}, r"returns \['mine'\], which"),
            (Denoiser, "parts", lambda self, x: {}, r"The score has the parts \['error'\], which"),
            (Denoiser, "parts", lambda self, x: {"error": x.mean()}, r"'error' in the shape \(\)"),
            (Denoiser, "reconstruct", lambda self, x: x[:, :1], r"'reconstruct' in the shape"),
            (AAE, "encode", lambda self, x: x, r"'encode' in the shape \(2, 2, 6\).*\(2, 2, 3\)"),
        ],
    )
    def test_it_is_told(self, own, hook, wrong, message, rows):
        model_class = type("Wrong", (own.model_class,), {hook: wrong})
        detector = make_own(type("Mistaken", (own,), {"model_class": model_class}))
        with pytest.raises(ValueError, match=message):
            detector.fit(rows[:60])
        assert not hasattr(detector, "model_")

    @pytest.mark.parametrize(
        ("losses", "error", "message"),
        [
            (None, TypeError, r"Wrong\.training_step must return a dict of losses, got NoneType"),
            ({"error": 0.5}, TypeError, r"returns 'error' as float: a loss is a tensor \(K, B\)"),
            ({"error": torch.ones(3, 2)}, ValueError, r"'error' in the shape \(3, 2\).*\(2, 30\)"),
        ],
    )
    def test_losses_that_are_not_one_value_for_each_member_and_sample(
        self, losses, error, message, rows
    ):
        hooks = {"training_step": lambda self, x, run: losses}
        model_class = type("Wrong", (Denoiser.model_class,), hooks)
        detector = make_own(type("Mistaken", (Denoiser,), {"model_class": model_class}))
        with pytest.raises(error, match=message):
            detector.fit(rows[:30])

    def test_a_model_without_part_weights(self, rows):
        class Half(Model):
            def build(self, make):
                self.encoder = make.encoder(self.latent_dim)

        @dataclass(eq=False, repr=False, kw_only=True)
        class HalfDetector(BaseDetector):
            """Its model is not complete."""

            model_class: ClassVar = Half

        with pytest.raises(TypeError, match="Half does not define part_weights, optimizers"):
            HalfDetector().fit(rows[:30])

    def test_no_model_class(self, rows):
        @dataclass(eq=False, repr=False, kw_only=True)
        class Bare(BaseDetector):
            """It names no model."""

        with pytest.raises(TypeError, match=r"Bare has no model_class: .*gandetect\.model\.Model"):
            Bare().fit(rows[:30])

    @pytest.mark.parametrize("hook", ["optimizers", "parts", "encode", "reconstruct"])
    def test_a_hook_that_every_method_has_is_missed(self, hook, rows):
        model_class = type("Half", (Denoiser.model_class,), {hook: getattr(Model, hook)})
        detector = make_own(type("Mistaken", (Denoiser,), {"model_class": model_class}))
        with pytest.raises(TypeError, match=f"Half does not define {hook}, which every method"):
            detector.fit(rows[:60])

    @pytest.mark.parametrize(
        "put",
        [
            lambda model: model.register_buffer("center", torch.zeros(3)),
            lambda model: setattr(model, "center", torch.nn.Parameter(torch.zeros(3))),
        ],
        ids=["buffer", "parameter"],
    )
    def test_a_tensor_on_the_model_itself_would_not_be_saved(self, put, rows):
        class Loose(Denoiser.model_class):
            def build(self, make):
                super().build(make)
                put(self)

        detector = make_own(type("Mistaken", (Denoiser,), {"model_class": Loose}))
        with pytest.raises(TypeError, match=r"\['center'\] on the model itself: put them into"):
            detector.fit(rows[:60])
