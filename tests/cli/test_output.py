import csv
import errno
import io
import json
import os
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gandetect
from gandetect.cli import score
from gandetect.cli.options import UsageError
from gandetect.cli.output import (
    check_file,
    check_folder,
    check_format,
    check_place,
    check_table,
    check_training,
    write_columns,
    write_record,
)
from gandetect.plotting import animation

COLUMNS = {"name": ["a", "long"], "n": np.array([1, 20]), "share": np.array([0.5, 0.123456])}


def options(format=None, out=None):
    return Namespace(format=format, out=out)


def test_a_table(capsys):
    write_columns(COLUMNS, options())
    assert capsys.readouterr().out == (
        "name   n   share\n"
        "a      1     0.5\n"
        "long  20  0.1235\n"
    )  # fmt: skip


def test_csv_has_all_digits(capsys):
    write_columns(COLUMNS, options("csv"))
    assert capsys.readouterr().out == "name,n,share\na,1,0.5\nlong,20,0.123456\n"


def test_json_is_a_list_of_objects(capsys):
    write_columns(COLUMNS, options("json"))
    first, second = json.loads(capsys.readouterr().out)
    assert first == {"name": "a", "n": 1, "share": 0.5}
    assert second["share"] == 0.123456


def test_a_record(capsys):
    record = {"roc_auc": np.float64(0.98765), "n": 3, "more": None}
    write_record(record, options())
    assert capsys.readouterr().out == "roc_auc  0.9877\nn        3\nmore     -\n"
    write_record(record, options("csv"))
    assert capsys.readouterr().out == "name,value\nroc_auc,0.98765\nn,3\nmore,\n"
    write_record(record, options("json"))
    assert json.loads(capsys.readouterr().out) == {"roc_auc": 0.98765, "n": 3, "more": None}


@pytest.mark.parametrize(
    ("name", "format", "start"),
    [
        ("x.csv", None, "name,n,"),
        ("x.json", None, "[\n {"),
        ("x.txt", None, "name   n"),
        ("x.json", "csv", "name,n,"),
    ],
)
def test_files_by_their_ending(name, format, start, tmp_path, capsys):
    path = tmp_path / name
    path.write_text("what was there before")
    write_columns(COLUMNS, options(format, str(path)))
    assert path.read_text().startswith(start)
    assert capsys.readouterr().out == ""
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_columns(COLUMNS, options(out=str(tmp_path / "x.parquet")))
    found = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert found == {"name": ["a", "long"], "n": [1, 20], "share": [0.5, 0.123456]}
    record = {"n": 3, "share": np.float64(0.5), "name": "a", "more": None}
    write_record(record, options(out=str(tmp_path / "y.PARQUET")))
    assert parquet.read_table(tmp_path / "y.PARQUET").to_pylist() == [record]


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"gandetect\[arrow\]"):
        check_format(options(out=str(tmp_path / "x.parquet")))


@pytest.mark.parametrize("write", [write_columns, write_record])
@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        (
            "x.xlsx",
            None,
            r"not one of .csv, .json, .parquet, .txt: use one of these, no extension",
        ),
        ("folder.v1", None, r"not one of .csv"),
        ("x.parquet", "csv", "--format csv does not match --out"),
    ],
)
def test_kinds_of_files_that_are_not_written(name, format, message, write, tmp_path):
    with pytest.raises(UsageError, match=message):
        check_format(options(format, str(tmp_path / name)))
    with pytest.raises(UsageError, match=message):
        write(COLUMNS, options(format, str(tmp_path / name)))
    assert not list(tmp_path.iterdir())


def test_no_cell_of_csv_is_a_formula(capsys):
    starts = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", "a=1", "1-1", "")
    columns = {"=name": list(starts), "n": [-1.5, -2, *range(6), None]}
    write_columns(columns, options("csv"))
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    cells = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'＝1", "a=1", "1-1", ""]
    assert [row[0] for row in rows] == ["'=name", *cells]
    assert [row[1] for row in rows[1:3]] == ["-1.5", "-2"]  # numbers stay numbers
    write_record({"-a": "=b"}, options("csv"))
    assert capsys.readouterr().out == "name,value\n'-a,'=b\n"


@pytest.mark.parametrize("format", ["csv", "json", "table"])
def test_names_of_files_that_are_no_text(format, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    for out in (None, str(tmp_path / "x")):
        write_columns({"sample": [name, "naïve"]}, options(format, out))
    for text in (capsys.readouterr().out, (tmp_path / "x").read_text()):
        assert "caf" in text
        assert "naïve" in (text if format != "json" else json.loads(text)[1]["sample"])


def test_a_place_where_no_file_can_be(tmp_path):
    check_place(None)
    check_place(str(tmp_path / "x"))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_place(str(tmp_path / "x" / "y"))
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        check_place(str(tmp_path))


posix = pytest.mark.skipif(os.name == "nt", reason="links and devices are POSIX's")


@pytest.fixture
def photos(tmp_path):
    """Three images of 8 by 8 in two folders, beside which one may name other places."""
    for name in ("photos/a/x.png", "photos/a/y.png", "photos/b/x.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 99, np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def no_work(monkeypatch):
    """Have a command fail that begins to read its model, and one that begins to score."""
    monkeypatch.setattr(score, "model_and_samples", lambda _: pytest.fail("it has begun"))


@pytest.fixture
def no_maps(monkeypatch):
    monkeypatch.setattr(
        gandetect.GANomalyDetector, "anomaly_map", lambda *_: pytest.fail("it has begun")
    )


def state_of(folder):
    """What is there, with what it holds."""
    paths = sorted(folder.rglob("*"))
    return {path: path.is_file() and path.read_bytes() for path in paths}


def link(kind, place, to):
    place.parent.mkdir(parents=True, exist_ok=True)
    os.link(to, place) if kind == "hard" else place.symlink_to(to)


class TestTheDataStay:
    @pytest.mark.parametrize("command", ["score", "predict"])
    @pytest.mark.parametrize("out", ["x.csv", "./sub/../x.csv", "soft.csv", "hard.csv"])
    @posix
    def test_a_table_over_its_data(self, command, out, fails, no_work, model, tmp_path):
        (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n")
        (tmp_path / "sub").mkdir()
        link("soft", tmp_path / "soft.csv", tmp_path / "x.csv")
        link("hard", tmp_path / "hard.csv", tmp_path / "x.csv")
        before = state_of(tmp_path)
        code, err = fails(command, model, "--data", tmp_path / "x.csv", "--out", tmp_path / out)
        assert (code, "is the input of --data and would be replaced" in err) == (2, True)
        assert state_of(tmp_path) == before

    @pytest.mark.parametrize(
        ("option", "message"),
        [("MODEL", "the input of MODEL"), ("--label-file", "the input of --label-file")],
    )
    def test_a_table_over_another_input(self, option, message, fails, no_work, table, tmp_path):
        (tmp_path / "it").write_text("mine")
        model = tmp_path / ("it" if option == "MODEL" else "model")
        model.touch()
        more = ("--label-file", tmp_path / "it") if option == "--label-file" else ()
        code, err = fails("score", model, "--data", table, *more, "--out", tmp_path / "it")
        assert (code, message in err) == (2, True)
        assert (tmp_path / "it").read_text() == "mine"

    @pytest.mark.parametrize("out", ["photos", "photos/maps", "photos/", "link", "link/maps"])
    @posix
    def test_maps_over_or_into_the_images(self, out, fails, no_work, image_model, photos, tmp_path):
        link("soft", tmp_path / "link", photos)
        before = state_of(tmp_path)
        place = f"{tmp_path}/{out}"
        code, err = fails("map", image_model, "--data", photos, "--out", place)
        assert code == 2
        assert "input of --data" in err
        assert state_of(tmp_path) == before

    def test_relative_paths(self, fails, no_work, image_model, photos, monkeypatch):
        monkeypatch.chdir(photos / "a")
        for out in (".", "..", "../a/new", "maps.npy"):
            code, err = fails("map", image_model, "--data", "..", "--out", out)
            assert (code, "input of --data" in err) == (2, True)

    def test_a_table_into_the_images(self, fails, no_work, image_model, photos):
        out = photos / "scores.csv"
        code, err = fails("score", image_model, "--data", photos, "--out", out)
        assert (code, "choose a path outside of the data" in err) == (2, True)
        assert not out.exists()

    @pytest.mark.parametrize("out", ["photos/a", "other"])
    def test_the_map_of_one_image_over_it(self, out, fails, no_maps, image_model, photos, tmp_path):
        link("hard", tmp_path / "other" / "x.png", photos / "a" / "x.png")
        before = state_of(tmp_path)
        data = ("--data", photos / "a" / "x.png")
        code, err = fails("map", image_model, *data, "--out", tmp_path / out)
        assert (code, "x.png is an image of --data and would be replaced" in err) == (2, True)
        assert state_of(tmp_path) == before

    def test_maps_of_a_class_over_images_of_others(self, fails, no_maps, image_model, photos):
        """The folder of the maps holds that of the data, and other images of their names."""
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(photos / "y.png")
        before = state_of(photos)
        code, err = fails("map", image_model, "--data", photos / "a", "--out", photos)
        assert (code, "y.png is an image of --data" in err) == (2, True)
        assert state_of(photos) == before

    def test_maps_beside_the_images(self, run, image_model, photos, tmp_path):
        before = state_of(photos)
        for _ in range(2):  # maps that are there are replaced
            assert run("map", image_model, "--data", photos, "--out", tmp_path / "m")[0] == 0
        assert state_of(photos) == before
        assert len(list((tmp_path / "m").rglob("*.png"))) == 3

    @pytest.mark.parametrize("out", ["bottle/x", "mvtec/bottle/test/scores.csv", "mnist.npz"])
    def test_a_data_set_that_has_a_name(self, out, tmp_path):
        (tmp_path / "mvtec" / "bottle" / "train" / "good").mkdir(parents=True)
        (tmp_path / "mnist.npz").touch()
        (tmp_path / "bottle").mkdir()
        data = "mnist" if out == "mnist.npz" else "mvtec:bottle"
        options = Namespace(out=str(tmp_path / out), data=data, data_dir=str(tmp_path))
        if out == "bottle/x":  # a folder that merely has a name like it
            check_file(options)
            return
        with pytest.raises(UsageError, match="input of --data"):
            check_file(options)

    def test_films_among_their_images(self, fails, monkeypatch, tmp_path):
        monkeypatch.setattr(animation, "animate", lambda *_, **__: pytest.fail("it has begun"))
        (tmp_path / "reconstruction" / "true").mkdir(parents=True)
        out = tmp_path / "reconstruction" / "true" / "x.gif"
        code, err = fails("animate", tmp_path, "--out", out)
        assert (code, "among the images of the animation" in err) == (2, True)


def training(tmp_path, **options):
    given = {"data": str(tmp_path / "x.csv"), "out": str(tmp_path / "model"), "data_dir": None}
    others = ("checkpoint_dir", "log_dir", "run_folder", "threshold_data", "run_test_data")
    given |= dict.fromkeys(others) | {"labels": None, "go_on_from": None}
    given["detector"] = "GANomalyDetector"
    return Namespace(**(given | {name: str(value) for name, value in options.items()}))


class TestTraining:
    @pytest.mark.parametrize("output", ["out", "checkpoint_dir", "log_dir", "run_folder"])
    @pytest.mark.parametrize("place", ["images", "images/a", "images/new/place"])
    @pytest.mark.parametrize("which", ["data", "threshold_data", "run_test_data"])
    def test_nothing_goes_into_the_data(self, tmp_path, output, place, which):
        (tmp_path / "images" / "a").mkdir(parents=True)
        options = training(tmp_path, **{which: tmp_path / "images", output: tmp_path / place})
        name = f"--{output.replace('_', '-')} .* input of --{which.replace('_', '-')}"
        with pytest.raises(UsageError, match=name):
            check_training(options)
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "images"]

    @pytest.mark.parametrize("output", ["out", "checkpoint_dir", "log_dir", "run_folder"])
    def test_places_that_cannot_be_written(self, tmp_path, output):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match="Cannot write"):
            check_training(training(tmp_path, **{output: tmp_path / "file" / "x"}))

    @pytest.mark.parametrize("name", ["x.csv.gz", "scores.CSV", "a.png", "m.onnx", "m.pkl"])
    def test_a_model_with_the_ending_of_another_file(self, tmp_path, name):
        with pytest.raises(
            UsageError, match=rf"{name} has the extension of another kind of file: .* \.model"
        ):
            check_training(training(tmp_path, data=tmp_path, out=tmp_path.parent / name))
        check_training(training(tmp_path, out=tmp_path / "m.v2"))

    def test_data_where_a_run_folder_puts_its_images(self, tmp_path):
        (tmp_path / "run" / "reconstruction" / "true").mkdir(parents=True)
        data = {"data": tmp_path / "run" / "reconstruction" / "true"}
        with pytest.raises(UsageError, match="is in --run-folder, whose images would be replaced"):
            check_training(training(tmp_path, run_folder=tmp_path / "run", **data))

    @pytest.mark.parametrize("folder", ["checkpoint_dir", "log_dir", "run_folder"])
    @pytest.mark.parametrize("place", ["model", "model/x", "./new/../model"])
    def test_the_model_and_a_folder_in_one_place(self, tmp_path, folder, place):
        with pytest.raises(UsageError, match=f"is also the path of --{folder.replace('_', '-')} "):
            check_training(training(tmp_path, **{folder: f"{tmp_path}/{place}"}))

    def test_the_model_in_the_place_of_the_checkpoint(self, tmp_path):
        out = tmp_path / "GANomalyDetector.safetensors"
        with pytest.raises(UsageError, match="is the file of the checkpoint"):
            check_training(training(tmp_path, checkpoint_dir=tmp_path, out=out))

    def test_a_model_that_is_trained_further_may_be_replaced(self, tmp_path):
        (tmp_path / "model").touch()
        check_training(training(tmp_path, go_on_from=tmp_path / "model"))

    def test_what_is_right_leaves_nothing_behind(self, tmp_path):
        (tmp_path / "x.csv").touch()
        folders = ("checkpoint_dir", "log_dir", "run_folder")
        check_training(training(tmp_path, **{name: tmp_path / "new" / name for name in folders}))
        everything = training(tmp_path, out=tmp_path / "models" / "all")
        everything.data, everything.data_dir = "mvtec:all", str(tmp_path)
        check_training(everything)
        assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


class TestPlaces:
    @pytest.mark.parametrize("command", ["score", "predict"])
    @pytest.mark.parametrize(
        ("out", "code", "message"),
        [
            ("none/x.csv", 1, "none/x.csv': there is no such folder"),
            ("folder", 1, "folder': it is a folder"),
            ("new/", 1, "new/': it is a folder"),
            ("file/x.csv", 1, "Not a directory"),
            (f"{'x' * 252}.csv", 1, "File name too long"),
            ("device", 1, "it is a device, a pipe or a socket"),
            (
                "results.v2",
                2,
                "results.v2 is not one of .csv, .json, .parquet, .txt: use one of these, "
                "no extension, or --format",
            ),
            ("x.xlsx", 2, "x.xlsx is not one of .csv"),
        ],
    )
    @posix
    def test_tables(self, command, out, code, message, fails, no_work, model, table, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("mine")
        (tmp_path / "device").symlink_to("/dev/null")
        before = sorted(tmp_path.iterdir())
        found, err = fails(command, model, "--data", table, "--out", f"{tmp_path}/{out}")
        assert (found, message in err) == (code, True), err
        assert ".part" not in err
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
    @pytest.mark.parametrize("arguments", [("score",), ("map",), ("animate",)])
    def test_what_the_system_refuses(
        self, code, arguments, fails, no_work, model, table, tmp_path, monkeypatch
    ):
        def refuses(name, *_):
            raise OSError(code, os.strerror(code), name)

        monkeypatch.setattr("gandetect.archive.os.open", refuses)
        monkeypatch.setattr(animation, "animate", lambda *_, **__: pytest.fail("it has begun"))
        (command,) = arguments
        data = () if command == "animate" else (model, "--data", table)
        run_folder = (tmp_path,) if command == "animate" else ()
        out = "x.gif" if command == "animate" else "x.csv"
        _, err = fails(command, *run_folder, *data, "--out", tmp_path / out)
        assert os.strerror(code) in err
        assert out in err

    @pytest.mark.parametrize(("number", "name"), [(0, "input"), (1, "output"), (2, "error")])
    def test_the_file_that_a_shell_opened(self, number, name, monkeypatch, tmp_path):
        (tmp_path / "rows.csv").write_text("1,2\n")
        opened, real = (tmp_path / "rows.csv").stat(), os.fstat

        def fstat(stream):
            return opened if stream == number else real(stream)

        monkeypatch.setattr(os, "fstat", fstat)
        with pytest.raises(UsageError, match=rf"rows\.csv is the standard {name} of this command"):
            check_place(str(tmp_path / "rows.csv"))
        check_place(str(tmp_path / "other.csv"))

    @pytest.mark.parametrize("check", [check_table, check_file, check_folder])
    def test_a_hyphen_is_no_file(self, check, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="--out does not accept -: without --out, tables"):
            check(Namespace(out="-", format=None, data="x.csv", model="m"))
        check(Namespace(out="./-", format=None, data="x.csv", model="m"))

    def test_no_place_is_standard_output(self):
        check_table(Namespace(out=None, format=None, data="x.csv", model="m"))

    @pytest.mark.parametrize(
        ("first", "second", "place"),
        [("a/x.png", "a/x.jpg", "x.png"), ("a/x.png/y.png", "a/x.jpg", "x.png")],
    )
    def test_two_pictures_of_one_name(
        self, first, second, place, fails, no_maps, image_model, tmp_path
    ):
        for name in (first, second):
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 99, np.uint8)).save(path)
        out = tmp_path / "maps"
        code, err = fails("map", image_model, "--data", tmp_path / "photos", "--out", out)
        assert code == 2
        assert f"would both be written as {out / 'a' / place}" in err
        assert not out.exists()

    def test_pictures_that_cannot_be_written(self, fails, no_maps, image_model, photos, tmp_path):
        for kind, message in (("file", "is not a folder"), ("folder", "it is a folder")):
            out = tmp_path / kind
            if kind == "file":
                out.mkdir()
                (out / "b").write_text("mine")
            else:
                (out / "b" / "x.png").mkdir(parents=True)
            before = state_of(out)
            code, err = fails("map", image_model, "--data", photos, "--out", out)
            assert (code, message in err) == (1, True)
            assert state_of(out) == before

    @pytest.mark.parametrize("is_there", [False, True])
    def test_a_folder_with_a_dot(
        self, is_there, fails, run, no_maps, image_model, photos, tmp_path, monkeypatch
    ):
        out = tmp_path / "maps.v1"
        if not is_there:
            code, err = fails("map", image_model, "--data", photos, "--out", out)
            assert (code, "with a /)" in err) == (2, True)
            assert not out.exists()
        else:
            out.mkdir()
        monkeypatch.undo()
        place = out if is_there else f"{out}/"
        assert run("map", image_model, "--data", photos, "--out", place) == (0, "", "")
        assert sorted(Path(path).name for path in out.rglob("*.png")) == ["x.png", "x.png", "y.png"]
