"""The tasks: data between 0 and 1, classifiers that are good, attacks that fool."""

import adversarial_tasks
import numpy as np
import pytest
import torch
from adversarial_tasks import ATTACKS, STRENGTHS, make_task


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    kept = tmp_path_factory.mktemp("kept")
    return make_task("breast_cancer/LogisticRegression", 0, data=None, kept=kept, n_test=40)


def test_rows(task):
    for X in (task.X_train, task.X_test):
        assert X.dtype == np.float32
        assert X.min() >= 0
        assert X.max() <= 1
    assert len(task.X_test) == len(task.y_test) == 40
    np.testing.assert_array_equal(task.labels(task.X_test), task.classifier.predict(task.X_test))
    np.testing.assert_allclose(
        task.probabilities(task.X_test), task.classifier.predict_proba(task.X_test), atol=1e-6
    )


def test_images_and_a_network_that_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(adversarial_tasks, "_EPOCHS", 15)
    rng = np.random.default_rng(0)
    y = np.arange(260) % 2
    images = rng.integers(0, 100, size=(260, 28, 28)).astype(np.uint8)
    images[y == 1, 10:18] += 120
    part = (np.arange(260) >= 200).astype(np.int64)
    np.savez(tmp_path / "mnist.npz", x=images, y=y, split=part)
    options = {"data": tmp_path, "kept": tmp_path / "kept", "n_test": 20}
    task = make_task("mnist/cnn", 3, **options)
    assert task.X_train.shape == (200, 28, 28)
    assert task.X_test.shape == (20, 28, 28)
    assert task.X_train.max() <= 1
    assert np.mean(task.labels(task.X_test) == task.y_test) == 1
    again = make_task("mnist/cnn", 3, **options)
    np.testing.assert_array_equal(again.X_test, task.X_test)
    for a, b in zip(task.classifier.parameters(), again.classifier.parameters(), strict=True):
        assert torch.equal(a, b)


def test_mnist_without_data(tmp_path):
    with pytest.raises(ValueError, match="--data"):
        make_task("mnist/cnn", 0, data=None, kept=tmp_path, n_test=5)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(task, attack, tmp_path, monkeypatch):
    pytest.importorskip("foolbox")
    kept = {
        strength: adversarial_tasks.attacked(task, "a/b", 0, attack, strength, tmp_path)
        for strength in STRENGTHS
    }
    assert len(list(tmp_path.iterdir())) == 2
    clean = task.labels(task.X_test)
    for X in kept.values():
        assert X.shape == task.X_test.shape
        assert X.min() >= 0
        assert X.max() <= 1
        assert np.mean(task.labels(X) != clean) > 0.8
    lengths = [np.linalg.norm(kept[of] - task.X_test, axis=1).mean() for of in STRENGTHS]
    assert lengths[0] < lengths[1]

    monkeypatch.setattr(adversarial_tasks, "run_attack", None)  # what is kept is not made again
    again = adversarial_tasks.attacked(task, "a/b", 0, attack, "minimum", tmp_path)
    np.testing.assert_array_equal(again, kept["minimum"])
