"""What "auto" stands for, and what a checkpoint must agree on."""

import numpy as np
import pytest

from gandetect import MLP
from gandetect.model.scaling import Scaler
from gandetect.model.shared import SharedParameters


def of(shape, **parameters):
    shared = SharedParameters(**parameters)
    shared.sample_shape_ = shape
    shared.scaler_ = Scaler("none", np.zeros(1), np.ones(1))
    return shared


@pytest.mark.parametrize("shape", [(7,), (3, 8, 9)])
class TestAuto:
    def test_numbers_are_themselves(self, shape):
        shared = of(shape, n_estimators=3, latent_dim=5, epochs=7)
        assert (shared._n_members(), shared._latent_dim(), shared._n_epochs(100)) == (3, 5, 7)

    def test_auto_is_at_least_one(self, shape):
        shared = of(shape)
        assert shared._n_members() >= 1
        assert shared._latent_dim() >= 1
        assert shared._n_epochs(10**9) == 1

    def test_epochs_make_up_the_updates(self, shape):
        shared = of(shape)
        updates = shared.auto_updates[len(shape) > 1]
        for n_batches in (1, 7, updates - 1, updates):
            assert updates <= shared._n_epochs(n_batches) * n_batches < updates + n_batches


def test_the_code_of_one_column_has_one_number():
    assert of((1,))._latent_dim() == 1


def test_fingerprint():
    detector = of((6,), latent_dim=3, architecture=MLP())
    same = of((6,), latent_dim=3, architecture=MLP(), verbose=1, score="paper", contamination=0.2)
    assert detector.fingerprint() == same.fingerprint()
    others = [
        of((5,), latent_dim=3),
        of((6,), latent_dim=2),
        of((6,), latent_dim=3, scaling="none"),
    ]
    assert len({other.fingerprint() for other in [detector, *others]}) == 4


def test_nested_parameters():
    class Nested:
        def get_params(self):
            return {"width": 3}

    parameters = SharedParameters(architecture=Nested()).get_params()
    assert parameters["architecture__width"] == 3
    assert "architecture__width" not in SharedParameters(architecture=Nested()).get_params(
        deep=False
    )
