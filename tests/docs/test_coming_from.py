"""The commands of the pages for users of other projects run, and come to something."""

import json
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_iris

import gandetect
from gandetect.cli import main
from gandetect.datasets import ImageFolder

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parents[2] / "docs" / "coming_from"
# What makes a training last: other numbers of the same setting.
SHORTER = {
    r"epochs=\d+": "epochs=40",
    r"n_filters=\d+": "n_filters=8",
    r"--image-size 256": "--image-size 32",
    r"--image-size 64,64": "--image-size 28,28",
    r"image_size=256": "image_size=32",
    r"learning_rate=[\de.-]+": "learning_rate=1e-3",
    r"batch_size=128": "batch_size=32",
    r"data/dtd/images": "procedural",
    r"--device cuda": "--device cpu",
}


def commands_of(page):
    """Each command of a page's first blocks, with the settings above made small."""
    text = (PAGES / page).read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for pattern, shorter in SHORTER.items():
        lines = re.sub(pattern, shorter, lines)
    commands = [shlex.split(line) for line in lines.replace("\\\n", " ").splitlines()]
    own = [command[1:] for command in commands if command[:1] == ["gandetect"]]
    for command in own:
        if command[0] == "fit" and not any(word.startswith("epochs=") for word in command):
            command += ["--set", "epochs=100", "--set", "batch_size=8"]
    return own


@pytest.fixture
def digits():
    """Digits of 28 x 28 pixels, their numbers, and which are for testing."""
    x, y = load_digits(return_X_y=True)
    x = np.kron(x.reshape(-1, 8, 8), np.ones((3, 3))) * 15
    x = np.pad(x, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    return x, y.astype(np.uint8), (np.arange(len(y)) % 3 == 0).astype(np.uint8)


@pytest.fixture
def data(tmp_path, monkeypatch, digits):
    """The data that the pages name, small, beside which the commands run."""
    monkeypatch.chdir(tmp_path)
    image = pytest.importorskip("PIL.Image")
    x, y, is_test = digits
    Path("data").mkdir()
    np.savez("data/mnist.npz", x=x, y=y, split=is_test)

    rng = np.random.default_rng(0)
    folder = Path("data/cifar-10-batches-py")
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels = np.arange(60) % 10
        pixels = rng.integers(0, 40, size=(60, 3, 1024), dtype=np.uint8)
        pixels[labels == 1, :, ::2] += 200  # the automobile
        batch = {b"data": pixels.reshape(60, 3072), b"labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))

    for part, kind, n in [("train", "good", 40), ("test", "good", 15), ("test", "broken", 15)]:
        for i in range(n):
            pixels = np.full((32, 32, 3), 120, np.uint8) + rng.integers(
                0, 20, (32, 32, 3), np.uint8
            )
            mask = np.zeros((32, 32), np.uint8)
            if kind == "broken":
                mask[8:20, 8:20] = 255
                pixels[8:20, 8:20] = 0
                masks = Path("data/mvtec/bottle/ground_truth/broken")
                masks.mkdir(parents=True, exist_ok=True)
                image.fromarray(mask).save(masks / f"{i:03}_mask.png")
            path = Path("data/mvtec/bottle", part, kind, f"{i:03}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            image.fromarray(pixels).save(path)

    for part, name, number in [("train", "0.normal", 0), ("test", "0.normal", 0), ("test", "1", 7)]:
        path = Path("folder", part, f"{name}" if name[1:] else "1.abnormal")
        path.mkdir(parents=True)
        chosen = x[(y == number) & (is_test == (part == "test"))][:40]
        for i, pixels in enumerate(chosen):
            image.fromarray(pixels).save(path / f"{i:03}.png")

    X, classes = load_iris(return_X_y=True)
    rows = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    rows.to_csv("new.csv", index=False)
    rows.assign(**{"class": classes}).to_csv("rows.csv", index=False)
    return tmp_path


def evaluated(out):
    """The number beside each name that a command prints in two columns."""
    pairs = (line.split() for line in out.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def errors(model, X):
    """Mean squared errors of the reconstructions, and of the mean image instead."""
    X_hat, X = gandetect.load(model).reconstruct(X), X.astype(float)
    return np.square(X_hat - X).mean(), np.square(X - X.mean(0)).mean()


@pytest.mark.parametrize(
    ("page", "least_auroc", "made"),
    [
        ("novelty_detection.md", 0.9, ["one.model", "checkpoints"]),
        ("enhanced_bigan.md", 0.6, ["zero.model", "results/stats/epoch_0010.png", "losses.gif"]),
        ("ganomaly.md", 0.6, ["car.model", "output"]),
        ("alibi_detect.md", None, ["guard.model", "flagged.csv", "corrected.csv"]),
        ("anomalib.md", 0.6, ["bottle.model", "maps"]),
        ("rdna.md", None, ["models/bottle.model", "checkpoints", "logs", "results.csv"]),
    ],
)
@pytest.mark.filterwarnings("default")
def test_commands_of_a_page(page, least_auroc, made, data, capsys):
    aurocs = []
    for command in commands_of(page):
        capsys.readouterr()
        assert main(command) == 0, command
        out = capsys.readouterr().out
        if command[0] == "evaluate":
            aurocs.append(evaluated(out).get("roc_auc"))
    for name in made:
        assert (data / name).exists(), name
    if page == "alibi_detect.md":
        assert gandetect.load("guard.model").classes_.tolist() == [0, 1, 2]
        classes, labels = pd.read_csv("rows.csv")["class"], pd.read_csv("corrected.csv")
        assert (labels["corrected"] == classes).mean() > 0.8  # by chance a third
    if page == "rdna.md":
        results = pd.read_csv("results.csv", index_col=0)
        assert results["roc_auc"].min() > 0.6 and results["pixel_roc_auc"].min() > 0.6
    if page == "ganomaly.md":
        error, of_mean = errors("model", ImageFolder("folder/test/0.normal", image_size=28).stack())
        assert error < of_mean
    if least_auroc is not None:
        assert aurocs
        assert min(map(float, aurocs)) > least_auroc


def test_the_refiner_of_novelty_detection_beats_the_mean_image(data, digits):
    fit, _ = commands_of("novelty_detection.md")
    assert main(fit) == 0
    x, y, is_test = digits
    detector = gandetect.load(data / "one.model")
    assert detector.training_report_.problems == {}
    assert "rec_bound" in detector.stop_reason_ or detector.n_iter_ == 40
    error, of_mean = errors("one.model", x[(y == 1) & (is_test == 1)])
    assert error < 0.7 * of_mean, json.dumps(detector.history_[-1])
