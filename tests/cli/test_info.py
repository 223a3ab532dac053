import json

import gandetect


def test_the_facts_as_text_and_as_json(run, model):
    code, out, err = run("info", model)
    assert (code, err) == (0, "")
    facts = gandetect.load(model).summary()
    assert out == f"{facts}\n"
    code, out, _ = run("info", model, "--json")
    assert code == 0
    assert json.loads(out) == facts
    assert facts["fitted_to"]["samples"] == 50
    assert facts["fitted_to"]["columns"] == ["a", "b", "c"]


def test_what_is_no_model(fails, table):
    code, err = fails("info", table)
    assert code == 1
    assert "rows.csv" in err
