"""Leaving out the samples that fit worst."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from gandetect import ALOCCDetector, GANomalyDetector
from gandetect.training.trimming import not_among_worst, trimmed, without_worst


class TestWithoutWorst:
    def test_each_member_leaves_out_its_own(self):
        x = torch.arange(8.0).reshape(2, 4, 1)
        errors = torch.tensor([[9.0, 1, 2, 3], [1, 2, 9, 3]])
        kept = without_worst(x, errors, 0.25)
        assert [sorted(member.flatten().tolist()) for member in kept] == [[1, 2, 3], [4, 5, 7]]

    @pytest.mark.parametrize(
        ("n", "share", "n_kept"),
        [(64, 0.01, 63), (10, 0.1, 9), (10, 0.5, 5), (3, 0.5, 2), (2, 0.5, 2)],
    )
    def test_how_many(self, n, share, n_kept):
        x = torch.randn(2, n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        assert without_worst(x, x.flatten(2).sum(-1), share).shape == (2, n_kept, 3, 4, 4)
        assert not_among_worst(np.arange(n), share).sum() == n_kept

    def test_the_worst_is_left_out(self):
        kept = not_among_worst(np.array([0.0, 7.0, 2.0, 1.0]), 0.25)
        assert kept.tolist() == [True, False, True, True]


def test_the_step_gets_what_is_left_in_training_mode():
    class Model(torch.nn.Module):
        def reconstruct(self, x):
            seen["training_while_reconstructing"] = self.training
            return torch.zeros_like(x)

        def observed(self, x):
            return None

    model, seen = Model().train(), {}

    def step(x):
        seen.update(x=x, training=model.training)
        return {"loss": x}

    trimmed(step, model, 0.5)(torch.tensor([[[1.0], [-5], [2], [-4]]]))
    assert sorted(seen.pop("x").flatten().tolist()) == [1, 2]
    assert seen == {"training": True, "training_while_reconstructing": False}


class TestDetectors:
    def test_every_detector_trains_trimmed(self, Detector, make, rows):
        scores = [make(Detector, trim=trim).fit(rows[:80]).anomaly_score(rows) for trim in (0, 0.2)]
        assert np.isfinite(scores).all()
        assert (scores[0] != scores[1]).any()

    def test_images(self, Detector, make, images, tiny_convnet):
        detector = make(Detector, trim=0.2, architecture=tiny_convnet, latent_dim=4)
        assert np.isfinite(detector.fit(images[:40]).anomaly_score(images)).all()

    @pytest.mark.filterwarnings("ignore:Column 0:UserWarning")
    def test_references_hold_no_outliers(self, rows):
        """Of neighbours in the score: 10 outliers among 90 rows, far away and trimmed."""
        X = np.concatenate([rows[:90], rows[90:100] + 1000])
        detector = GANomalyDetector(
            epochs=2, n_estimators=1, trim=0.1, score="neighbours", random_state=0
        ).fit(X)
        # 100 without the tenth that is reconstructed worst, and of these without another tenth.
        assert detector.neighbours_["neighbours"].points.shape[1] == 81

    def test_finds_what_it_was_trained_on(self):
        """A tight group of anomalies, a tenth of the training rows, that can be learned."""
        rng = np.random.default_rng(0)
        normal = rng.normal(size=(360, 2)) @ rng.normal(size=(2, 6))
        anomalies = 3 * np.sign(rng.normal(size=6)) + 0.1 * rng.normal(size=(40, 6))
        X, is_anomaly = np.concatenate([normal, anomalies]), np.arange(400) >= 360
        aurocs = [
            roc_auc_score(
                is_anomaly,
                GANomalyDetector(
                    epochs=40,
                    n_estimators=2,
                    latent_dim=2,
                    learning_rate=3e-3,
                    trim=trim,
                    random_state=0,
                )
                .fit(X)
                .anomaly_score(X),
            )
            for trim in (0.0, 0.15)
        ]
        assert aurocs[1] > 0.9
        assert aurocs[1] > aurocs[0]

    def test_the_default_of_rows_takes_small_draws_in(self, rows):
        detector = ALOCCDetector(epochs=2, n_estimators=2, trim=0.1, random_state=0).fit(rows[:200])
        scores = detector.anomaly_score(rows)
        parts = {"reconstruction": 1, "neighbours": 2, "sample_neighbours": 3}
        detector.set_params(score={**parts, "subsampled_neighbours": 3})
        np.testing.assert_array_equal(detector.anomaly_score(rows), scores)

    def test_the_score_is_that_of_the_fit_whatever_trim_is_now(self, rows):
        """What a score is made of is settled by the fit: trim says how the next one trains."""
        for trim, later in ((0.1, 0), (0, 0.1)):
            detector = ALOCCDetector(epochs=1, n_estimators=1, trim=trim, random_state=0)
            scores = detector.fit(rows[:80]).anomaly_score(rows)
            labels = detector.predict(rows)
            detector.set_params(trim=later)
            np.testing.assert_array_equal(detector.anomaly_score(rows), scores)
            np.testing.assert_array_equal(detector.predict(rows), labels)
