"""Training under attack."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import gandetect
from gandetect import GANomalyDetector, RDNADetector
from gandetect.attacks import attack_score
from gandetect.losses import mean_squared_error
from gandetect.training.robust import _MARGIN, attacked
from tests.helpers import assert_equal_scores, one_detector, untrained, weights_of

EPS = 0.2
# By how much a robust fit is to be better under attack, in AUROC, at 20 epochs and two members.
LEAST_GAIN = 0.03


def planted():
    """Rows near a space of three dimensions; anomalies are off it in two columns."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(260, 3)) @ rng.normal(size=(3, 12)) / 2
    rows += rng.normal(size=rows.shape) / 2
    anomalies = rows[200:].copy()
    anomalies[:, :2] += 2.5 * rows.std()
    return rows[:200], np.vstack([rows[200:], anomalies]), np.repeat([False, True], 60)


class TestBatch:
    @one_detector
    def test_without_robust_the_networks_see_the_batch(self, Detector, make, rows):
        _, run, x = untrained(make(Detector), rows[:20])
        assert run.seen(x) is x

    def test_it_is_moved_within_the_margin_to_a_larger_error(self, Detector, make, rows):
        model, run, x = untrained(make(Detector, robust=0.05), rows[:20])
        weights = weights_of(model.networks)
        seen = attacked(model, x, run.random)
        assert 0.5 * _MARGIN * 0.05 < (seen - x).abs().max() <= _MARGIN * 0.05 * 1.001
        assert model.training
        model.eval()
        with torch.no_grad():
            errors = [mean_squared_error(x, model.reconstruct(z)).mean() for z in (x, seen)]
        assert errors[1] > errors[0]
        for name, value in weights_of(model.networks).items():
            assert torch.equal(value, weights[name]), name

    def test_images_stay_in_their_range(self, make, images, tiny_convnet):
        detector = make(GANomalyDetector, robust=0.2, architecture=tiny_convnet)
        model, run, x = untrained(detector, images[:8])
        seen = attacked(model, x, run.random)
        assert -1 <= seen.min() <= seen.max() <= 1
        # A share of the range, which is 2 here.
        assert (seen - x).abs().max() <= 2 * _MARGIN * 0.2 + 1e-6


class TestFit:
    def test_it_is_better_under_attack(self, Detector, make):
        X_train, X, y = planted()
        found = []
        for robust in (0, EPS):
            detector = make(Detector, robust=robust, epochs=20).fit(X_train)
            moved = attack_score(detector, X, y, eps=EPS, n_steps=10)
            found.append([roc_auc_score(y, detector.anomaly_score(x)) for x in (X, moved)])
        (clean, under_attack), (robust_clean, robust_under_attack) = found
        assert robust_under_attack > under_attack + LEAST_GAIN
        assert robust_clean > clean - 0.05

    @one_detector
    def test_it_repeats_and_leaves_the_global_generators(self, Detector, make, rows):
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        scores = [
            make(Detector, robust=0.1).fit(rows[:80]).anomaly_score(rows[:20]) for _ in range(2)
        ]
        np.testing.assert_array_equal(*scores)
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])

    def test_images(self, Detector, make, images, tiny_convnet):
        detector = make(
            Detector, robust=8 / 255, architecture=tiny_convnet, latent_dim=4, epochs=1
        ).fit(images[:24])
        assert np.isfinite(detector.anomaly_score(images[:5])).all()

    @one_detector
    def test_it_is_saved_and_goes_on(self, Detector, make, rows, tmp_path):
        detector = make(Detector, robust=0.1).fit(rows[:80])
        scores = detector.anomaly_score(rows[:20])
        detector.save(tmp_path / "detector")
        for again in (
            gandetect.load(tmp_path / "detector"),
            pickle.loads(pickle.dumps(detector)),
        ):
            assert_equal_scores(again.anomaly_score(rows[:20]), scores)
            assert {found.order for found in again.neighbours_.values()} == {4.0}
        further = again.set_params(warm_start=True, robust=0.0).fit(rows[:80])
        assert further.n_iter_ == 4
        assert {found.order for found in further.neighbours_.values()} <= {1.0, 2.0}
        # Without `robust` the default scaling is another one, but the networks expect this one.
        assert further.scaler_.kind == detector.scaler_.kind == "standard"
        with pytest.raises(ValueError, match="got scaling='unskewed'"):
            further.set_params(scaling="unskewed").fit(rows[:80])

    @one_detector
    def test_beside_trim_and_without_references(self, Detector, make, rows):
        detector = make(Detector, robust=0.1, trim=0.1, store_references=False).fit(rows[:80])
        assert np.isfinite(detector.anomaly_score(rows[:5])).all()


class TestRefused:
    @pytest.mark.parametrize("robust", [-0.1, float("nan"), float("inf")])
    @one_detector
    def test_values(self, Detector, make, rows, robust):
        with pytest.raises(ValueError, match="robust"):
            make(Detector, robust=robust).fit(rows)

    @one_detector
    def test_words(self, Detector, make, rows):
        with pytest.raises(TypeError, match="robust"):
            make(Detector, robust="much").fit(rows)

    def test_tables_of_words(self, make):
        table = pd.DataFrame({"a": [1.0, 2.0, 3.0] * 4, "b": list("xyz") * 4})
        with pytest.raises(ValueError, match=r"robust perturbs numbers.*set robust=0"):
            make(GANomalyDetector, robust=0.1).fit(table)

    def test_a_backbone(self, images):
        detector = RDNADetector(backbone=torch.nn.AvgPool2d(2), robust=0.1)
        with pytest.raises(
            ValueError, match="RDNADetector with these parameters has no adversarial"
        ):
            detector.fit(images)
