"""What the tests of the commands share: a way to run one, and small data."""

import numpy as np
import pandas as pd
import pytest

from gandetect.cli import main

TINY = ("--set", "epochs=1", "--set", "n_estimators=1")


@pytest.fixture
def run(capsys):
    """Run a command in this process; the exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def fails(run):
    """Run a command that fails; its exit code and its one line."""

    def fails(*arguments):
        code, out, err = run(*arguments)
        assert code != 0
        assert out == ""
        assert err.count("\n") == 1, err
        assert "error: " in err
        return code, err

    return fails


@pytest.fixture(scope="session")
def cli_rows():
    """(60, 3) of which the last ten lie far off, and the labels that say so."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[50:] += 30
    return X, np.repeat(["good", "bad"], [50, 10])


@pytest.fixture(scope="session")
def named_rows(cli_rows):
    """The rows under the names of their columns."""
    return pd.DataFrame(cli_rows[0], columns=["a", "b", "c"])


@pytest.fixture(scope="session")
def table(cli_rows, tmp_path_factory):
    """The rows as a .csv, with the columns a, b, c and kind."""
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    X, labels = cli_rows
    lines = [
        f"{a!r},{b!r},{label},{c!r}" for (a, b, c), label in zip(X.tolist(), labels, strict=True)
    ]
    path.write_text("\n".join(["a,b,kind,c", *lines]) + "\n")
    return path


@pytest.fixture(scope="session")
def model(table, tmp_path_factory):
    """A detector that was fitted to the good rows."""
    path = tmp_path_factory.mktemp("model") / "model"
    labels = ("--label-column", "kind", "--normal-class", "good")
    code = main(
        ["fit", "ganomaly", "--data", str(table), *labels, "--set", "epochs=5", "--out", str(path)]
    )
    assert code == 0
    return path


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Twelve images of 8 by 8: eight in flat/, four with a bright spot in spot/."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(90, 110, size=(8, 8), dtype=np.uint8)
        if i >= 8:
            image[2:5, 2:5] = 250
        path = folder / ("flat" if i < 8 else "spot") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="session")
def image_model(image_folder, tmp_path_factory):
    """A detector that was fitted to the flat images."""
    path = tmp_path_factory.mktemp("image-model") / "model"
    tiny = (*TINY, "--set", "architecture=ConvNet(n_filters=4)")
    data = ("--data", str(image_folder), "--normal-class", "flat")
    assert main(["fit", "ganomaly", *data, *tiny, "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder of data sets as they are published, but small."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    digits = np.repeat(np.arange(4), 20)
    images = rng.integers(0, 50, size=(80, 28, 28), dtype=np.uint8)
    images[np.arange(80), 5 * digits, :] = 255
    np.savez(folder / "mnist.npz", x=images, y=digits, split=np.arange(80) % 2)
    X = rng.normal(size=(60, 4))
    X[45:] += 20
    (folder / "adbench").mkdir()
    np.savez(folder / "adbench" / "99_toy.npz", X=X, y=np.repeat([0, 1], [45, 15]))
    return folder
