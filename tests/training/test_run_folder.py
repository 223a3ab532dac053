import csv
import errno
import os
import sys

import numpy as np
import pytest
from PIL import Image

import gandetect
from gandetect import BiGANDetector, Checkpoint, GANomalyDetector, RDNADetector, RunFolder
from gandetect.data.images import ImageFolder
from gandetect.networks import ConvNet
from gandetect.plotting import animate, draw_losses
from gandetect.training import current_run
from gandetect.training.callbacks import Callback, ExponentialMovingAverage
from gandetect.training.run_folder import epoch_images
from tests.helpers import needs_callbacks

pytestmark = needs_callbacks


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).random((20, 6, 9))


def small(Detector=GANomalyDetector, **parameters):
    chosen = {"epochs": 2, "n_estimators": 1, "latent_dim": 2, "random_state": 0}
    return Detector(**{**chosen, "architecture": ConvNet(n_filters=4), **parameters})


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_layout(X, tmp_path):
    run = RunFolder(tmp_path / "a" / "run", X_test=X[10:], every_n_epochs=2)
    small(epochs=5).set_callbacks(run).fit(X)
    images = [
        f"reconstruction/{folder}/epoch_{epoch:04d}.png"
        for folder in ("comparison", "fake", "test", "true")
        for epoch in (2, 4)
    ]
    models = ["epoch_0002", "epoch_0004", "final"]
    assert names(tmp_path / "a" / "run") == [
        *(f"models/{name}.safetensors" for name in models),
        *images,
        "stats/history.csv",
    ]


def test_the_losses_of_every_epoch(X, tmp_path):
    detector = small(epochs=3).set_callbacks(RunFolder(tmp_path)).fit(X)
    with (tmp_path / "stats" / "history.csv").open(newline="") as file:
        records = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert records == detector.history_


def test_models_are_those_of_their_epochs(X, tmp_path):
    detector = small(epochs=3).set_callbacks(RunFolder(tmp_path, every_n_epochs=1)).fit(X)
    for epochs, name in ((1, "epoch_0001"), (3, "epoch_0003"), (3, "final")):
        model = gandetect.load(tmp_path / "models" / f"{name}.safetensors")
        assert model.n_iter_ == epochs
        is_last = epochs == 3
        assert np.array_equal(model.anomaly_score(X), detector.anomaly_score(X)) == is_last
        assert (model.threshold_ == detector.threshold_) == is_last


@pytest.mark.parametrize("order", [1, -1])
def test_the_final_model_is_the_one_that_fit_returns(X, tmp_path, order):
    callbacks = [RunFolder(tmp_path), ExponentialMovingAverage(0.9)][::order]
    detector = small(epochs=3).set_callbacks(*callbacks).fit(X)
    final = gandetect.load(tmp_path / "models" / "final.safetensors")
    np.testing.assert_array_equal(final.anomaly_score(X), detector.anomaly_score(X))
    assert final.threshold_ == detector.threshold_


def test_the_images(X, tmp_path):
    detector = small().set_callbacks(RunFolder(tmp_path, n_images=10)).set_params(epochs=10).fit(X)
    true = pixels(tmp_path / "reconstruction" / "true" / "epoch_0010.png")
    scale = 11  # 6 pixels to at least 64
    assert true.shape == (2 * (6 * scale + 2) + 2, 8 * (9 * scale + 2) + 2, 3)
    low, high = X[:10].min(), X[:10].max()
    shown = np.rint(255 * (X[:10] - low) / (high - low))
    np.testing.assert_array_equal(true[2 : 2 + 66 : scale, 2 : 2 + 99 : scale, 0], shown[0])
    ninth = true[70 : 70 + 66 : scale, 2 : 2 + 99 : scale, 0]
    np.testing.assert_array_equal(ninth, shown[8])
    comparison = pixels(tmp_path / "reconstruction" / "comparison" / "epoch_0010.png")
    assert comparison.shape[0] == 4 * 68 + 2
    x_hat = np.clip((detector.reconstruct(X[:10]) - low) / (high - low), 0, 1)
    below = comparison[70 : 70 + 66 : scale, 2 : 2 + 99 : scale, 0]
    np.testing.assert_allclose(below, np.rint(255 * x_hat[0]), atol=1)
    # A detector that draws nothing shows its reconstructions.
    fake = pixels(tmp_path / "reconstruction" / "fake" / "epoch_0010.png")
    np.testing.assert_array_equal(fake[2:68], comparison[70:136])


def test_a_generator_draws_the_same_codes_each_epoch(X, tmp_path):
    run = RunFolder(tmp_path, every_n_epochs=2, n_images=4)
    detector = small(BiGANDetector).set_callbacks(run).fit(X)
    fake = pixels(tmp_path / "reconstruction" / "fake" / "epoch_0002.png")
    drawn = detector.sample(4, random_state=0)
    low, high = X[:4].min(), X[:4].max()
    expected = np.rint(255 * np.clip((drawn[0] - low) / (high - low), 0, 1))
    np.testing.assert_allclose(fake[2:68:11, 2:101:11, 0], expected, atol=1)


def test_drawn_images_of_flat_rows_have_their_colours(tmp_path):
    X = np.random.default_rng(0).random((20, 162))
    run = RunFolder(tmp_path, every_n_epochs=2, n_images=4)
    detector = small(BiGANDetector, image_shape=(6, 9, 3)).set_callbacks(run).fit(X)
    fake = pixels(tmp_path / "reconstruction" / "fake" / "epoch_0002.png")
    drawn = detector.sample(4, random_state=0).reshape(4, 6, 9, 3)
    low, high = X[:4].min(), X[:4].max()
    expected = np.rint(255 * np.clip((drawn[0] - low) / (high - low), 0, 1))
    np.testing.assert_allclose(fake[2:68:11, 2:101:11], expected, atol=1)


@pytest.mark.parametrize(
    ("shape", "parameters", "is_colour"),
    [
        ((20, 6, 9, 3), {}, True),
        ((20, 6, 9, 2), {}, False),
        ((20, 3, 6, 9), {"channel_axis": 0}, True),
        ((20, 54), {"image_shape": (6, 9)}, False),
        ((20, 162), {"image_shape": (6, 9, 3)}, True),
    ],
)
def test_any_layout_of_images(shape, parameters, is_colour, tmp_path):
    X = np.random.default_rng(0).random(shape)
    small(**parameters).set_callbacks(RunFolder(tmp_path, every_n_epochs=1)).fit(X)
    image = pixels(tmp_path / "reconstruction" / "true" / "epoch_0001.png")
    assert image.shape == (2 * 68 + 2, 8 * (9 * 11 + 2) + 2, 3)
    assert (image[..., 0] != image[..., 1]).any() == is_colour


def test_a_folder_of_images(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(4):
        pixels_of_i = rng.integers(0, 256, (6, 9), dtype=np.uint8)
        Image.fromarray(pixels_of_i).save(tmp_path / "images" / f"{i}.png")
    small().set_callbacks(RunFolder(tmp_path / "run", every_n_epochs=1)).fit(tmp_path / "images")
    true = pixels(tmp_path / "run" / "reconstruction" / "true" / "epoch_0001.png")
    expected = ImageFolder(tmp_path / "images")[0]  # of 8 bits: the values that they have
    np.testing.assert_array_equal(true[2:68:11, 2:101:11, 0], expected)


def test_rows_have_no_images_and_need_no_pillow(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    small(architecture=None).set_callbacks(RunFolder(tmp_path, every_n_epochs=1)).fit(rows[:30])
    assert [name.split("/")[0] for name in names(tmp_path)] == ["models"] * 3 + ["stats"]


def test_without_pillow_images_fail_before_training(X, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"gandetect\[images\]"):
        small().set_callbacks(RunFolder(tmp_path)).fit(X)
    assert not (tmp_path / "stats" / "history.csv").exists()


def test_watching_changes_no_bit(X, tmp_path):
    watched = small(BiGANDetector).set_callbacks(RunFolder(tmp_path, every_n_epochs=1)).fit(X)
    alone = small(BiGANDetector).fit(X)
    np.testing.assert_array_equal(watched.anomaly_score(X), alone.anomaly_score(X))
    assert watched.history_ == alone.history_


def test_what_an_older_longer_run_left_is_removed(X, tmp_path):
    small(epochs=4).set_callbacks(RunFolder(tmp_path, every_n_epochs=1)).fit(X)
    own = tmp_path / "reconstruction" / "comparison" / "mine.png"
    own.write_bytes(b"")
    small(epochs=2).set_callbacks(RunFolder(tmp_path, every_n_epochs=2)).fit(X)
    assert list(epoch_images(tmp_path, "comparison")) == [2]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "epoch_0002.safetensors",
        "final.safetensors",
    ]
    assert own.exists()


@pytest.mark.parametrize("order", [1, -1])
def test_a_resumed_training_keeps_what_it_wrote(X, tmp_path, order):
    class Interrupt:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and len(current_run().history) == 2:
                raise KeyboardInterrupt

    def callbacks():
        both = [RunFolder(tmp_path, every_n_epochs=1), Checkpoint(tmp_path / "checkpoint")]
        return both[::order]

    with (
        pytest.warns(match="interrupted after epoch 2"),
        pytest.raises(KeyboardInterrupt),
    ):
        small(epochs=4).set_callbacks(*callbacks(), Interrupt()).fit(X)
    first = (tmp_path / "models" / "epoch_0001.safetensors").stat().st_mtime_ns
    small(epochs=4).set_callbacks(*callbacks()).fit(X)
    assert list(epoch_images(tmp_path, "true")) == [1, 2, 3, 4]
    assert (tmp_path / "models" / "epoch_0001.safetensors").stat().st_mtime_ns == first


def test_only_the_first_process_writes(X, tmp_path, monkeypatch):
    monkeypatch.setattr("gandetect.training.run_folder.is_first", lambda: False)
    small().set_callbacks(RunFolder(tmp_path / "run", every_n_epochs=1)).fit(X)
    assert not (tmp_path / "run").exists()


class NoTraining(Callback):
    def on_fit_task_begin(self, estimator, context, *, X=None):
        assert context.task_name != "epoch", "it trains"


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        ("run", "run' is not a folder"),
        ("run/models", "models' is not a folder"),
        ("run/reconstruction", "reconstruction' is not a folder"),
        ("run/stats/history.csv/", "history.csv': it is a folder"),
        ("run/models/final.safetensors/", "final.safetensors': it is a folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_before_training(X, tmp_path, blocked, message):
    place = tmp_path / blocked
    if blocked.endswith("/"):
        place.mkdir(parents=True)
    else:
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
    before = names(tmp_path)
    with pytest.raises(OSError, match=message):
        small().set_callbacks(RunFolder(tmp_path / "run"), NoTraining()).fit(X)
    assert names(tmp_path) == before


@pytest.mark.parametrize("path", [None, b"run"])
def test_what_is_no_path_is_told(path):
    with pytest.raises(TypeError, match="path must be the path of a folder, got"):
        RunFolder(path)


def test_a_full_disk_is_told_before_training(X, tmp_path, monkeypatch):
    def refuses(name, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    monkeypatch.setattr("gandetect.archive.os.open", refuses)
    with pytest.raises(OSError, match=r"Cannot write into .*run/.*: No space left"):
        small().set_callbacks(RunFolder(tmp_path / "run"), NoTraining()).fit(X)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("parameters", [{"every_n_epochs": 0}, {"n_images": 0}])
def test_wrong_parameters(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        RunFolder("run", **parameters)


def test_what_rdna_trains_on(tmp_path):
    X = np.full((12, 16, 16, 3), 120, np.uint8)
    for part in ("a", "b"):
        run = RunFolder(tmp_path / part, every_n_epochs=1, n_images=8)
        settings = {"image_size": 8, "anomaly_probability": 1.0}
        settings |= {"epochs": 8, "learning_rate": 0.05}
        small(RDNADetector, **settings).set_callbacks(run).fit(X)
    first, second = (
        pixels(tmp_path / "a" / "reconstruction" / "masks" / f"epoch_000{epoch}.png")
        for epoch in (1, 8)
    )
    # Eight images beside each other; below them masks, reconstructions, and what is judged.
    lines = [first[2 + i * 66 : 66 + i * 66] for i in range(4)]
    assert first.shape == second.shape == (4 * 66 + 2, 8 * 66 + 2, 3)
    is_masked = lines[1][..., 0] == 255
    assert set(np.unique(lines[1])) <= {0, 255} and 0.01 < is_masked[:, 2:66].mean() < 0.9
    is_changed = np.abs(lines[0].astype(int) - 120).max(axis=2) > 1
    inside = np.s_[:, 2:66]
    assert not (is_changed & ~is_masked)[inside].any()
    # The same anomalies in each epoch and training, judged by networks that learn.
    np.testing.assert_array_equal(first[:132], second[:132])
    assert (first != second).any()
    other = pixels(tmp_path / "b" / "reconstruction" / "masks" / "epoch_0001.png")
    np.testing.assert_array_equal(first, other)


def test_curves_of_the_losses(X, tmp_path):
    run = RunFolder(tmp_path / "long", every_n_epochs=1, draw_losses=draw_losses)
    small(epochs=3).set_callbacks(run).fit(X)
    made = names(tmp_path / "long" / "stats")
    assert made == ["epoch_0001.png", "epoch_0002.png", "epoch_0003.png", "history.csv"]
    curves = [pixels(tmp_path / "long" / "stats" / name) for name in made[:3]]
    assert curves[0].shape == curves[1].shape and (curves[1] != curves[2]).any()
    animate(tmp_path / "long" / "stats", tmp_path / "losses.gif", dpi=20)
    small(epochs=1).set_callbacks(run).fit(X)
    assert names(tmp_path / "long" / "stats") == ["epoch_0001.png", "history.csv"]
