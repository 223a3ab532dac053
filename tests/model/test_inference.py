"""Running fitted networks over samples, where it says more than the contract."""

import numpy as np
import pytest
import torch

from gandetect import GANomalyDetector
from gandetect.model.inference import block_size, thinned
from gandetect.model.scoring import Neighbours, draws


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
        ((6,), 512),
        ((5000,), 512),
        ((1, 1, 1), 64),
        ((1, 28, 28), 64),
        ((5, 64, 48), 16),
        ((3, 256, 256), 8),
        ((3, 2000, 2000), 8),
    ],
)
def test_blocks_of_large_samples_are_small(sample_shape, size):
    assert block_size(sample_shape) == size


def test_more_rows_than_are_calibrated_on(Detector, make, rows, monkeypatch):
    monkeypatch.setattr("gandetect.base._MAX_CALIBRATION_ROWS", 100)
    monkeypatch.setattr("gandetect.model.inference._MAX_REFERENCES", 30)
    detector = make(Detector, epochs=1).fit(rows)
    assert abs((detector.predict(rows) == -1).mean() - 0.1) < 0.06


class TestNeighbours:
    @pytest.mark.parametrize("n_references", [2, 30, 2000])
    def test_training_rows_are_calibrated_without_themselves(self, rows, monkeypatch, n_references):
        monkeypatch.setattr("gandetect.model.inference._MAX_REFERENCES", n_references)
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
        distance = Neighbours.of(x[:, :60]).distance(x)[0].double()
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
            pytest.skip("the method has no discriminator")
        features = detector.discriminator_features(X)
        assert features.shape[0] == len(X)
        assert features.ndim == 2 and np.isfinite(features).all()
        assert features.std(axis=0).max() > 0
        np.testing.assert_array_equal(detector.discriminator_features(X[5:7]), features[5:7])

    def test_those_of_the_members_stand_side_by_side(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=2, random_state=0).fit(rows[:60])
        x = detector.scaler_(rows[:9]).expand(2, 9, 6)
        with torch.inference_mode():
            _, expected = detector.networks_["discriminator"](x)
        features = detector.discriminator_features(rows[:9])
        np.testing.assert_allclose(features, torch.cat([*expected], dim=1), rtol=1e-5, atol=1e-6)

    def test_a_method_without_a_discriminator(self, rows):
        detector = GANomalyDetector(epochs=1, n_estimators=1, random_state=0).fit(rows[:60])
        del detector.networks_["discriminator"]
        with pytest.raises(TypeError, match="has no discriminator"):
            detector.discriminator_features(rows[:9])
