import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import gandetect
from gandetect import Checkpoint, GANomalyDetector
from gandetect.cli.data import Samples
from gandetect.cli.fit import _spread
from gandetect.data.images import ImageFolder
from gandetect.plotting import draw_losses
from tests.helpers import needs_callbacks

TINY = ("--set", "epochs=1", "--set", "n_estimators=1")


@pytest.fixture
def normal(table):
    return ("--data", table, "--label-column", "kind", "--normal-class", "good")


def test_what_is_saved_is_what_the_library_fits(run, normal, named_rows, tmp_path):
    more = ("--set", "latent_dim=2", "--set", "epochs=2", "--contamination", "0.2")
    code, out, err = run(
        "fit",
        "ganomaly",
        *normal,
        *more,
        "--seed",
        "3",
        "--out",
        tmp_path / "m",
        "--format",
        "json",
    )
    assert (code, err) == (0, "")
    X = named_rows[:50]
    expected = GANomalyDetector(latent_dim=2, epochs=2, contamination=0.2, random_state=3).fit(X)
    loaded = gandetect.load(tmp_path / "m")
    assert list(loaded.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_array_equal(loaded.anomaly_score(X), expected.anomaly_score(X))
    told = json.loads(out)
    assert (told["detector"], told["epochs"]) == ("GANomalyDetector", 2)
    assert (told["samples"], told["left_out"]) == (50, 10)
    assert told["threshold"] == expected.threshold_


def test_a_data_set_by_name(run, data_dir, tmp_path):
    data = ("--data", "mnist", "--data-dir", data_dir, "--anomalous-class", "2")
    architecture = ("--set", "architecture=ConvNet(n_filters=4)")
    code, out, err = run("fit", "alocc", *data, *TINY, *architecture, "--out", tmp_path / "m")
    assert (code, err) == (0, "")
    assert "48\n" in out  # 80 % of the 60 that are not twos
    assert gandetect.load(tmp_path / "m").input_shape_ == (28, 28)


def test_the_threshold_of_other_samples(run, normal, table, tmp_path, named_rows):
    inferred = ("--outlier-perc", "20", "--threshold-data", table)
    assert run("fit", "ganomaly", *normal, *TINY, *inferred, "--out", tmp_path / "m")[0] == 0
    loaded = gandetect.load(tmp_path / "m")
    assert np.sum(loaded.predict(named_rows) == -1) == 12


def test_classes_of_normal_samples_go_to_a_detector_and_other_labels_do_not(
    run, data_dir, table, tmp_path, monkeypatch
):
    given = []

    class ClassyDetector(GANomalyDetector):
        """Notes its labels."""

        def fit(self, X, y=None, *, class_labels=None):
            given.append(class_labels)
            return super().fit(X)

    monkeypatch.setattr(gandetect, "ClassyDetector", ClassyDetector, raising=False)
    monkeypatch.setattr(gandetect, "__all__", [*gandetect.__all__, "ClassyDetector"])
    fit = ("fit", "classy", *TINY, "--out", tmp_path / "m", "--data")
    small = ("--set", "architecture=ConvNet(n_filters=4)", "--data-dir", data_dir)
    assert run(*fit, "mnist", *small, "--anomalous-class", "2")[0] == 0
    kind = (table, "--label-column", "kind")
    assert run(*fit, *kind, "--part", "all")[0] == 0
    assert run(*fit, *kind, "--normal-class", "good")[0] == 0
    classes, *others = given
    assert set(classes) == {0, 1, 3}
    assert others == [None, None]


def test_a_table_as_it_comes(run, fails, tmp_path):
    rng = np.random.default_rng(0)
    lines = [
        f"T{i:03d};{x:.3f};{y:.3f};{label}".replace(".", ",")
        for i, (x, y), label in zip(
            range(60), rng.normal(size=(60, 2)), ["normal"] * 50 + ["fraud"] * 10, strict=True
        )
    ]
    path = tmp_path / "fraud.csv"
    path.write_text("\n".join(["id;amount;balance;kind", *lines]) + "\n")
    fit = ("fit", "ganomaly", "--data", path, *TINY, "--out", tmp_path / "m")
    code, err = fails(*fit, "--set", "columns=None")
    assert (code, "'id' (strings such as 'T000'" in err) == (1, True)
    code, out, err = run(*fit, "--id-column", "id", "--label-column", "kind", "--format", "json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["samples"], told["left_out"], told["sample_shape"]) == (50, 10, "2")
    named = ("--data", path, "--id-column", "id", "--label-column", "kind")
    _, out, _ = run("predict", tmp_path / "m", *named, "--format", "csv")
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == [f"T{i:03d}" for i in range(60)]


@pytest.mark.filterwarnings("default:line 1 of")
def test_a_header_of_integers(run, tmp_path):
    path = tmp_path / "wide.csv"
    pd.DataFrame(np.random.default_rng(0).normal(size=(30, 50))).to_csv(path, index=False)
    fit = ("fit", "ganomaly", "--data", path, *TINY, "--out", tmp_path / "m", "--format", "json")
    code, out, err = run(*fit)
    assert (code, json.loads(out)["samples"]) == (0, 30)
    assert "is read as the names of the columns" in err


@pytest.mark.filterwarnings("default:outlier_perc")
def test_a_share_for_a_percentage_is_told(run, normal, table, tmp_path):
    share = ("--outlier-perc", "0.05", "--threshold-data", table)
    code, _, err = run("fit", "ganomaly", *normal, *TINY, *share, "--out", tmp_path / "m")
    assert (code, err.count("\n"), "is a percentage, not a fraction" in err) == (0, 1, True)


@needs_callbacks
def test_checkpoints(run, fails, normal, tmp_path, named_rows):
    keep = ("--checkpoint-dir", tmp_path / "new" / "kept", "--checkpoint-every", "2")
    fit = ("fit", "ganomaly", *normal, *TINY, *keep)
    assert run(*fit, "--out", tmp_path / "first")[0] == 0
    path = tmp_path / "new" / "kept" / "GANomalyDetector.safetensors"
    assert run(*fit, "--resume", "--out", tmp_path / "second")[0] == 0
    scores = []
    for name in ("first", "second"):
        loaded = gandetect.load(tmp_path / name)
        scores.append(loaded.anomaly_score(named_rows))
    np.testing.assert_array_equal(*scores)
    # Another training cannot go on from this one, but it can take its place.
    other = (*fit, "--set", "latent_dim=1", "--out", tmp_path / "third")
    code, err = fails(*other, "--resume")
    assert (code, "other parameters" in err) == (1, True)
    before = path.read_bytes()
    assert run(*other)[0] == 0
    assert path.read_bytes() != before


def test_going_on_from_a_model(run, fails, normal, tmp_path, table):
    assert run("fit", "ganomaly", *normal, *TINY, "--out", tmp_path / "m")[0] == 0
    go_on = ("--go-on-from", tmp_path / "m", "--set", "epochs=2")
    assert run("fit", "ganomaly", *normal, *go_on, "--out", tmp_path / "n")[0] == 0
    loaded = gandetect.load(tmp_path / "n")
    assert (loaded.n_iter_, loaded.n_members_) == (3, 1)
    code, err = fails("fit", "bigan", *normal, *go_on, "--out", tmp_path / "n")
    assert code == 2
    assert "contains the class GANomalyDetector" in err


@needs_callbacks
def test_logs_for_tensorboard(run, normal, tmp_path):
    pytest.importorskip("tensorboard")
    log = ("--log-dir", tmp_path / "logs")
    assert run("fit", "ganomaly", *normal, *TINY, *log, "--out", tmp_path / "m")[0] == 0
    assert len(list((tmp_path / "logs").glob("events*"))) == 1


@needs_callbacks
def test_the_run_folder(run, normal, tmp_path, monkeypatch, data_dir):
    given = []

    def record(folder, **options):
        given.append((folder, options))
        return Checkpoint(tmp_path / "c", resume=False)

    monkeypatch.setattr("gandetect.training.run_folder.RunFolder", record)
    more = (*TINY, "--run-folder", tmp_path / "run", "--out", tmp_path / "m")
    assert run("fit", "ganomaly", *normal, *more, "--run-every", "3")[0] == 0
    toy = ("--data", "adbench:toy", "--data-dir", data_dir)
    assert run("fit", "ganomaly", *toy, *more)[0] == 0
    (of_file, of_toy) = given
    pictures = {"draw_losses": draw_losses}
    assert of_file == (tmp_path / "run", {"X_test": None, "every_n_epochs": 3, **pictures})
    assert of_toy[1]["every_n_epochs"] == 10
    assert of_toy[1]["X_test"].shape == (38, 4)


def test_seed_and_device_may_be_set_as_parameters(run, normal, tmp_path):
    more = ("--set", "random_state=5", "--set", "device=cpu", "--out", tmp_path / "m")
    assert run("fit", "ganomaly", *normal, *TINY, *more)[0] == 0
    assert gandetect.load(tmp_path / "m").random_state == 5


def test_verbose(run, normal, tmp_path):
    _, _, err = run("fit", "ganomaly", *normal, *TINY, "--verbose", "--out", tmp_path / "m")
    assert "GANomalyDetector: 100%" in err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--set", "epoch=1"), 2, "did you mean 'epochs'"),
        (("--set", "epochs=0"), 2, "epochs"),
        (("--contamination", "0.1", "--set", "contamination=0.2"), 2, "given twice"),
        (("--contamination", "0.9"), 2, "0 to 0.5"),
        (("--outlier-perc", "5"), 2, "must be given together"),
        (("--resume",), 2, "need --checkpoint-dir"),
        (("--checkpoint-every", "2"), 2, "need --checkpoint-dir"),
        (("--device", "nowhere"), 1, "Unknown device"),
        (("--go-on-from", "missing"), 1, "missing"),
        (("--set", "image_shape=(2, 2)"), 1, "image_shape"),
    ],
)
def test_mistakes(more, code, message, fails, normal, tmp_path):
    found, err = fails("fit", "ganomaly", *normal, *more, "--out", tmp_path / "m")
    assert found == code
    assert message in err
    assert not (tmp_path / "m").exists()


def test_a_folder_that_is_missing_is_told_before_the_training(fails, normal, tmp_path):
    code, err = fails("fit", "ganomaly", *normal, "--out", tmp_path / "x" / "m")
    assert code == 1
    assert "no such folder" in err


@needs_callbacks
def test_test_images_of_the_run_folder(run, fails, image_folder, tmp_path):
    flat = ("--data", image_folder / "flat", *TINY, "--set", "architecture=ConvNet(n_filters=4)")
    out = ("--out", tmp_path / "m")
    keep = ("--run-folder", tmp_path / "run", "--run-every", "1")
    assert run("fit", "ganomaly", *flat, *keep, *out)[0] == 0
    assert not (tmp_path / "run" / "reconstruction" / "test").exists()
    test_data = ("--run-test-data", image_folder)
    assert run("fit", "ganomaly", *flat, *keep, *test_data, *out)[0] == 0
    assert (tmp_path / "run" / "reconstruction" / "test" / "epoch_0001.png").is_file()
    code, err = fails("fit", "ganomaly", *flat, *test_data, *out)
    assert (code, "--run-test-data needs --run-folder" in err) == (2, True)


def test_the_test_images_are_of_every_kind(image_folder):
    labels = np.repeat(["flat", "spot"], [8, 4])
    samples = Samples(X=ImageFolder(image_folder), labels=labels)
    many = samples.take(np.repeat(np.arange(12), 5))
    shown = _spread(many)
    assert len(shown) == 16
    assert set(shown.labels) == {"flat", "spot"}
    assert len(_spread(samples)) == 12


@needs_callbacks
@pytest.mark.filterwarnings("default:the run folder shows no test images")
def test_a_category_without_a_test_part(run, image_folder, tmp_path):
    nut = tmp_path / "mvtec" / "nut" / "train" / "good"
    nut.mkdir(parents=True)
    for path in (image_folder / "flat").iterdir():
        (nut / path.name).write_bytes(path.read_bytes())
    data = ("--data", "mvtec:nut", "--data-dir", tmp_path, "--run-folder", tmp_path / "run")
    small = (*TINY, "--set", "architecture=ConvNet(n_filters=4)", "--out", tmp_path / "m")
    code, _, err = run("fit", "ganomaly", *data, *small)
    assert code == 0
    assert err.startswith("gandetect: warning: the run folder shows no test images")


@pytest.fixture
def fraud(cli_rows, tmp_path):
    """A table in which two of ten frauds are known, and most rows have no label."""
    X, _ = cli_rows
    labels = ["fine"] * 5 + [""] * 45 + ["fraud"] * 2 + [""] * 8
    pd.DataFrame(X, columns=["a", "b", "c"]).assign(is_fraud=labels).to_csv(
        tmp_path / "fraud.csv", index=False
    )
    named = ("--label-column", "is_fraud", "--anomalous-class", "fraud")
    return ("--data", tmp_path / "fraud.csv", *named)


def test_known_anomalies_are_learned_from(run, table, named_rows, tmp_path):
    labels = ("--label-column", "kind", "--anomalous-class", "bad", "--labels", "learn")
    data = ("--data", table, *labels, *TINY, "--format", "json")
    code, out, err = run("fit", "ganomaly", *data, "--out", tmp_path / "m")
    assert (code, err) == (0, "")
    expected = GANomalyDetector(labels="learn", epochs=1, n_estimators=1, random_state=0)
    expected.fit(named_rows, np.arange(60) >= 50)
    loaded = gandetect.load(tmp_path / "m")
    X = named_rows
    np.testing.assert_array_equal(loaded.anomaly_score(X), expected.anomaly_score(X))
    told = json.loads(out)
    assert (told["samples"], told["left_out"], told["known_anomalies"]) == (60, 0, 10)


@pytest.fixture
def marked(tmp_path):
    """Images with defects and masks, of which some are marked as in the CSV of a report."""
    rng = np.random.default_rng(0)
    for i in range(8):
        kind = "bad" if i > 5 else "good"
        pixels = rng.integers(100, 110, size=(16, 16), dtype=np.uint8)
        mask = np.zeros((16, 16), dtype=np.uint8)
        if kind == "bad":
            mask[4:9, 4:9] = 255
            (tmp_path / "set" / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{i}.png")
        (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.maximum(pixels, mask)).save(tmp_path / "set" / kind / f"{i}.png")
    (tmp_path / "marks.csv").write_text("sample,label\nbad/6.png,1\ngood/0.png,0\n")
    return "--data", tmp_path / "set", "--labels", "learn", "--label-file", tmp_path / "marks.csv"


@pytest.mark.filterwarnings("default::gandetect.TrainingWarning")
def test_masks_are_those_of_the_marked_images(run, marked, tmp_path):
    small = (*TINY, "--set", "architecture=ConvNet(n_filters=2)", "--set", "image_size=8")
    code, out, _ = run("fit", "rdna", *marked, *small, "--format", "json", "--out", tmp_path / "m")
    assert (code, json.loads(out)["known_anomalies"]) == (0, 1)


def test_images_of_several_shapes_are_learned_from_on_features_only(fails, marked, tmp_path):
    Image.new("L", (12, 16), 105).save(tmp_path / "set" / "good" / "0.png")
    how = ("--image-size", "16", "--out", tmp_path / "m")
    code, err = fails("fit", "rdna", *marked, *how)
    assert (code, "RDNADetector needs one shape" in err) == (1, True)


def test_most_labels_may_be_missing_where_anomalies_are_known(run, fraud, tmp_path):
    data = fraud
    code, _, err = run(
        "fit", "ganomaly", *data, "--labels", "learn", *TINY, "--out", tmp_path / "m"
    )
    assert (code, err) == (0, "")
    # Rows without a label are normal ones, as far as one knows.
    assert gandetect.load(tmp_path / "m").model_.known is not None


@pytest.mark.parametrize("labels", [None, "ignore", "exclude"])
def test_what_labels_do_is_said(run, table, named_rows, tmp_path, labels):
    data = ("--data", table, "--label-column", "kind", "--normal-class", "good")
    said = () if labels is None else ("--labels", labels)
    arguments = (*data, *said, *TINY, "--out", tmp_path / "m", "--format", "json")
    code, out, _ = run("fit", "ganomaly", *arguments)
    assert code == 0
    n_left_out = 0 if labels == "ignore" else 10
    assert json.loads(out)["left_out"] == n_left_out


def test_training_goes_on_with_what_labels_did(run, table, tmp_path):
    data = ("--data", table, "--label-column", "kind", "--normal-class", "good", *TINY)
    assert run("fit", "ganomaly", *data, "--labels", "learn", "--out", tmp_path / "a")[0] == 0
    more = ("--go-on-from", tmp_path / "a", "--out", tmp_path / "b", "--format", "json")
    code, out, _ = run("fit", "ganomaly", *data, *more)
    assert code == 0
    told = json.loads(out)
    assert (told["epochs"], told["known_anomalies"]) == (2, 10)


def test_nothing_to_learn_from_is_refused(fails, table, data_dir, tmp_path):
    out = ("--out", tmp_path / "m")
    named = ("--data", table, "--label-column", "kind")
    _, err = fails("fit", "ganomaly", *named, "--labels", "learn", *out)
    assert "--anomalous-class" in err
    _, err = fails(
        "fit", "ganomaly", "--data", table, "--drop-columns", "kind", "--labels", "learn", *out
    )
    assert "has no labels" in err
    digits = ("--data", "mnist", "--data-dir", data_dir, "--anomalous-class", "2")
    _, err = fails("fit", "ganomaly", *digits, "--labels", "learn", *out)
    assert "--part all" in err
    both = ("--labels", "learn", "--set", "labels=ignore")
    _, err = fails("fit", "ganomaly", *named, *both, *out)
    assert "labels is given twice" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--normal-class", "x"), "has no labels: name them with --label-column"),
        (("--anomalous-class", "x"), "has no labels: name them with --label-column"),
        (("--label-file", "none.txt"), "there is no file none.txt, given by --label-file"),
        (("--label-file", "."), "there is no file ., given by --label-file"),
    ],
)
def test_labels_that_are_not_there(fails, table, tmp_path, options, message):
    data = ("--data", table, "--drop-columns", "kind")
    _, err = fails("fit", "ganomaly", *data, *options, "--out", tmp_path / "m")
    assert message in err


def test_a_share_that_is_not_known(run, normal, tmp_path):
    fit = ("fit", "ganomaly", *normal, *TINY, "--out", tmp_path / "model")
    assert run(*fit, "--contamination", "auto")[0] == 0
    assert gandetect.load(tmp_path / "model").get_params()["contamination"] == "auto"
    code, _, err = run(*fit, "--contamination", "some")
    assert code == 2
    assert "0 to 0.5" in err
