"""What is said about a training: each thing that can go wrong, and silence where nothing did."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning

from gandetect import GANomalyDetector, TrainingWarning, load
from gandetect.training.report import Beginning, Reconstructions
from tests.helpers import one_detector


@pytest.fixture(scope="module")
def benign():
    X, y = load_breast_cancer(return_X_y=True)
    return X[y == 1]


def fitted_with_warning(detector, X):
    """The report on a fit that must warn, and the first warning."""
    with pytest.warns(ConvergenceWarning) as caught:
        detector.fit(X)
    return detector.training_report_, caught[0]


class TestFires:
    @pytest.mark.parametrize("epochs", [1, 60])
    def test_for_a_learning_rate_of_0(self, Detector, make, rows, epochs):
        detector = make(Detector, learning_rate=0, epochs=epochs)
        report, warning = fitted_with_warning(detector, rows[:128])
        assert warning.category is TrainingWarning
        assert "raise the learning_rate" in str(warning.message)
        assert set(report.still_networks) == set(detector.networks_)
        assert ("no_better_than_untrained" in report.problems) == (epochs == 60)

    @pytest.mark.parametrize("epochs", [1, 5, 60])
    def test_for_a_learning_rate_of_10(self, Detector, make, rows, epochs):
        detector = make(Detector, learning_rate=10, epochs=epochs)
        report, warning = fitted_with_warning(detector, rows[:128])
        assert report.problems.keys() & {"weights_exploded", "diverged"}
        assert "learning_rate" in str(warning.message).lower()

    @pytest.mark.parametrize("learning_rate", [0, 10])
    def test_on_images(self, Detector, make, images, tiny_convnet, learning_rate):
        detector = make(
            Detector, architecture=tiny_convnet, latent_dim=4, learning_rate=learning_rate
        )
        report, _ = fitted_with_warning(detector.set_params(epochs=10), images[:60])
        assert report.problems

    @pytest.fixture
    def without_gradients(self, monkeypatch):
        """Networks of a method, all or those named, whose gradients are 0."""

        def change(Detector, *names):
            build = Detector.model_class.build

            def changed(self, make):
                build(self, make)
                networks = [getattr(self, name) for name in names] or [self]
                for parameter in [p for network in networks for p in network.parameters()]:
                    if parameter.requires_grad:
                        parameter.register_hook(torch.zeros_like)

            monkeypatch.setattr(Detector.model_class, "build", changed)

        return change

    def test_for_gradients_of_0(self, Detector, make, rows, without_gradients):
        without_gradients(Detector)
        report, _ = fitted_with_warning(make(Detector), rows[:60])
        assert "weights_did_not_move" in report.problems

    def test_for_one_network_without_gradients(self, rows, without_gradients):
        without_gradients(GANomalyDetector, "decoder")
        detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0)
        report, warning = fitted_with_warning(detector, rows[:60])
        assert report.still_networks == ("decoder",)
        assert "No weight of decoder changed" in str(warning.message)


class TestSilent:
    @pytest.mark.parametrize("random_state", range(2))
    def test_about_healthy_rows(self, Detector, benign, random_state):
        detector = Detector(
            n_estimators=2, epochs=20, random_state=random_state, learning_rate=3e-3
        ).fit(benign)
        assert detector.training_report_.n_updates >= 100
        assert detector.training_report_.problems == {}

    def test_about_healthy_images(self, Detector, tiny_convnet):
        detector = Detector(
            n_estimators=1,
            epochs=10,
            batch_size=16,
            architecture=tiny_convnet,
            learning_rate=3e-3,
            random_state=0,
        ).fit(load_digits().images[:160])
        assert detector.training_report_.n_updates >= 100
        assert detector.training_report_.problems == {}

    @pytest.mark.parametrize("n", [2, 9])
    @one_detector
    def test_about_few_samples(self, Detector, make, rows, n):
        assert make(Detector, learning_rate=0).fit(rows[:n]).training_report_.problems == {}

    def test_about_samples_that_are_all_alike(self, Detector, make):
        assert make(Detector).fit(np.ones((50, 3))).training_report_.problems == {}

    def test_about_a_training_that_goes_on(self, rows):
        """What has been learned before need not be learned again."""
        detector = GANomalyDetector(
            epochs=60, n_estimators=1, learning_rate=3e-3, warm_start=True, random_state=0
        ).fit(rows[:128])
        untrained = detector.training_report_.untrained_error
        detector.set_params(learning_rate=1e-6).fit(rows[:128])
        assert detector.training_report_.problems == {}
        assert detector.training_report_.untrained_error == untrained
        assert GANomalyDetector(epochs=1, n_estimators=1).fit(rows[:60]).training_report_


def report_of(x, x_hat, *, n_updates=100, parts=None, loss=0.5, untrained=1.0, step=0.1):
    """The report on a training of one weight, which moved."""
    networks = torch.nn.ModuleDict({"net": torch.nn.Linear(1, 1)})
    optimizer = torch.optim.SGD(networks.parameters(), step, momentum=0.9)
    beginning = Beginning.of(networks, lambda: Reconstructions.of(x, x_hat), None)
    beginning = replace(beginning, untrained_error=(untrained,) * x.shape[1])
    networks["net"](torch.ones(1, 1)).sum().backward()
    optimizer.step()
    run = SimpleNamespace(
        optimizers={"net": optimizer},
        history=[{"discriminator": loss}],
        n_updates=n_updates,
        has_diverged=False,
    )
    return beginning.report(run, parts or {"a": torch.arange(20.0).expand(x.shape[1], 20)})


class TestRules:
    @pytest.fixture
    def x(self):
        return torch.randn(20, 1, 6, generator=torch.Generator().manual_seed(0))

    def test_nothing_wrong(self, x):
        report = report_of(x, 0.9 * x)
        assert report.problems == {}
        assert report.reconstruction_error[0] == pytest.approx(0.1 * x.abs().mean().item())
        assert report.reconstruction_spread[0] == pytest.approx(0.9)
        assert report.n_samples == 20

    def test_reconstructions_that_are_alike(self, x):
        assert set(report_of(x, 1e-3 * x).problems) == {"collapsed_generator"}
        assert report_of(x, 1e-3 * x, n_updates=99).problems == {}

    def test_reconstructions_that_are_nearly_alike_and_worse_than_the_mean_sample(self, x):
        stroke = torch.full((6,), 2.0)
        report = report_of(x, stroke + 0.02 * x, untrained=5.0)
        assert set(report.problems) == {"collapsed_generator"}
        assert "worse than their mean" in report.problems["collapsed_generator"]
        error, variance = (stroke - 0.98 * x).square().mean(), x.var(0, correction=0).mean()
        assert report.error_to_mean[0] == pytest.approx((error / variance).item(), rel=1e-5)
        # Faint, but nearer to its sample than the mean is; or wrong, but different for each.
        assert report_of(x, 0.02 * x + 0.98 * x.mean(0), untrained=5.0).problems == {}
        assert report_of(x, stroke + x, untrained=5.0).problems == {}
        # Or still on its way to the mean of all samples, and about as good.
        on_its_way = report_of(x, 0.5 + 0.1 * x, untrained=5.0)
        assert 1 < on_its_way.error_to_mean[0] < 1.5
        assert on_its_way.problems == {}

    def test_errors_as_before_training(self, x):
        error = 0.5 * x.abs().mean().item()
        assert set(report_of(x, 0.5 * x, untrained=0.9 * error).problems) == {
            "no_better_than_untrained"
        }
        assert report_of(x, 0.5 * x, untrained=0.9 * error, n_updates=99).problems == {}
        assert report_of(x, 0.5 * x, untrained=0.3 * error, n_updates=1).problems

    def test_errors_that_are_not_finite(self, x):
        assert "no_better_than_untrained" in report_of(x, x * torch.inf, n_updates=1).problems

    def test_weights_that_exploded(self, x):
        assert report_of(x, x, step=1.0).problems == {}
        report = report_of(x, x, step=1e3)
        assert set(report.problems) == {"weights_exploded"}
        assert report.weight_growth["net"] > 50

    def test_constant_scores(self, x):
        report = report_of(x, x, parts={"a": torch.full((1, 20), 3.0)}, n_updates=1)
        assert set(report.problems) == {"constant_scores"}
        one_that_differs = {"a": torch.full((1, 20), 3.0), "b": torch.arange(20.0)[None]}
        assert report_of(x, x, parts=one_that_differs).problems == {}

    @pytest.mark.parametrize(("loss", "is_wrong"), [(0.0, True), (1e-4, False), (-5.0, False)])
    def test_a_discriminator_that_has_won(self, x, loss, is_wrong):
        assert bool(report_of(x, x, loss=loss).problems) == is_wrong

    def test_one_member_of_three_does_not_spoil_the_others(self, x):
        x = x.expand(20, 3, 6)
        share = torch.tensor([1.0, 1.0, 0.0])[:, None]
        assert report_of(x, share * x).problems == {}
        assert set(report_of(x, share.flip(0) * x * share).problems) == {"collapsed_generator"}

    def test_several_at_once_are_all_named(self, x):
        report = report_of(x, 0 * x, loss=0.0)
        assert set(report.problems) == {"collapsed_generator", "saturated_discriminator"}
        for sentence in report.problems.values():
            assert sentence in report.message()


class TestReport:
    @one_detector
    def test_saved_and_loaded(self, fitted_to_rows, tmp_path):
        fitted_to_rows.save(tmp_path / "detector")
        assert load(tmp_path / "detector").training_report_ == fitted_to_rows.training_report_

    def test_a_diverged_training_warns_once(self, rows):
        detector = GANomalyDetector(learning_rate=1e30, epochs=3, n_estimators=1, random_state=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            detector.fit(rows[:60])
        assert len(caught) == 1
        assert "diverged" in detector.training_report_.problems
