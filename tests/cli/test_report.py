import csv

import pytest

import gandetect


@pytest.fixture
def labels():
    return ("--label-column", "kind", "--normal-class", "good")


def test_a_page_about_a_table(run, model, table, labels, tmp_path):
    out = tmp_path / "report.html"
    code, stdout, err = run(
        "report", model, "--data", table, *labels, "--out", out, "--largest", 12
    )
    assert (code, stdout, err) == (0, "", "")
    text = out.read_text(encoding="utf-8")
    assert "rows.csv" in text
    assert "AUROC" in text
    assert text.count("<select") == 12


def test_a_page_about_images(run, image_model, image_folder, tmp_path):
    out = tmp_path / "report.html"
    data = ("--data", image_folder, "--normal-class", "flat")
    assert run("report", image_model, *data, "--out", out, "--largest", 3) == (0, "", "")
    text = out.read_text(encoding="utf-8")
    assert text.count("<img") == 6
    assert 'data-sample="spot/' in text
    assert "AUROC" in text


@pytest.mark.filterwarnings("default")
def test_labels_that_do_not_tell_are_left_out(run, model, table, tmp_path):
    out = tmp_path / "report.html"
    code, _, err = run("report", model, "--data", table, "--label-column", "kind", "--out", out)
    assert code == 0
    assert "written without labels" in err
    assert "AUROC" not in out.read_text(encoding="utf-8")


def test_inputs_are_not_replaced(fails, model, table, tmp_path):
    page = tmp_path / "model.html"
    page.write_bytes(model.read_bytes())
    code, err = fails("report", page, "--data", table, "--out", page)
    assert code == 2
    assert "MODEL" in err
    assert page.read_bytes() == model.read_bytes()
    code, err = fails("report", model, "--data", table, "--out", tmp_path / "report.csv")
    assert code == 2
    assert ".html" in err
    assert fails("report", model, "--data", table, "--out", tmp_path / "no" / "r.html")[0] == 1


class TestMarks:
    """What a report exports is what `fit` reads."""

    @pytest.fixture
    def marks(self, tmp_path):
        path = tmp_path / "marks.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["sample", "label"], ["55", "1"], ["57", "1"], ["3", "0"]])
        return path

    def test_marked_anomalies_are_not_trained_on(self, run, table, marks, tmp_path):
        code, out, err = run(
            *("fit", "ganomaly", "--data", table, "--drop-columns", "kind"),
            *("--label-file", marks, "--set", "epochs=1", "--out", tmp_path / "model"),
        )
        assert code == 0, err
        facts = dict(line.split(None, 1) for line in out.splitlines())
        assert (facts["samples"], facts["left_out"]) == ("58", "2")

    @pytest.mark.parametrize("content", [None, "sample,label\n55,1\n57,1\n"])
    def test_marked_anomalies_are_learned_from(self, run, table, marks, tmp_path, content):
        if content:
            marks.write_text(content)
        code, _, err = run(
            *("fit", "ganomaly", "--data", table, "--drop-columns", "kind", "--labels", "learn"),
            *("--label-file", marks, "--set", "epochs=1", "--out", tmp_path / "model"),
        )
        assert code == 0, err
        fitted_to = gandetect.load(tmp_path / "model").summary()["fitted_to"]
        assert (fitted_to["samples"], fitted_to["known_anomalies"]) == (58, 2)

    def test_a_sample_that_is_not_there(self, fails, table, marks, tmp_path):
        marks.write_text("sample,label\nnobody,1\n")
        code, err = fails(
            *("fit", "ganomaly", "--data", table, "--drop-columns", "kind"),
            *("--label-file", marks, "--out", tmp_path / "model"),
        )
        assert code == 1
        assert "'nobody'" in err

    def test_names_of_images_and_of_formulas(self, run, image_folder, tmp_path):
        (tmp_path / "marks.csv").write_text('sample,label\n"spot/08.png",1\n"flat/01.png",0\n')
        code, out, err = run(
            *("fit", "ganomaly", "--data", image_folder, "--label-file", tmp_path / "marks.csv"),
            *("--set", "epochs=1", "--set", "architecture=ConvNet(n_filters=4)"),
            *("--out", tmp_path / "model"),
        )
        assert code == 0, err
        assert "left_out      1" in out
