"""Settings against simulated anomalies: that every detector can be asked for every score."""

import json

import numpy as np
import pytest
import selection
from protocols import Split


@pytest.mark.parametrize("detector", ["AdversarialVAE", "RDNA"])
def test_one_fit_gives_every_score(detector, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 4)), np.arange(120) >= 100
    split = Split(X[:60], X[60:] + 4 * y[60:, None], y[60:].astype(int))
    monkeypatch.setattr(selection, "load_split", lambda *where: split)
    model_class = selection.our_detectors()[detector].model_class
    monkeypatch.setattr(model_class, "auto_updates", (20, 20))
    settings = selection.settings_of(detector)
    first = selection.SelectionRun(
        name="a", detector=detector, seed=0, setting=json.dumps(settings[0])
    )
    runs = list(selection.measure(first, None))
    of_first_fit = [s for s in settings if {**s, "score": None} == {**settings[0], "score": None}]
    assert [json.loads(run.setting) for run in runs] == of_first_fit
    assert all(0 <= run.auroc <= 1 and 0 <= run.simulated <= 1 for run in runs)
