import numpy as np
import pytest

from gandetect.data.tables import Table
from gandetect.demo.tasks import TASKS, _with_defect

WORDS = {"very low", "low", "medium", "high", "very high"}


def rows_of(X):
    if isinstance(X, Table):
        return {tuple(map(str, row)) for row in zip(*X.columns, strict=True)}
    return {sample.tobytes() for sample in X}


@pytest.fixture(scope="module", params=TASKS, ids=lambda make_task: make_task.__name__)
def make_task(request):
    return request.param


@pytest.fixture(scope="module")
def task(make_task):
    return make_task(0)


def test_no_sample_serves_twice(task):
    train, mixed, test = (rows_of(X) for X in (task.X_train, task.X_mixed, task.X_test))
    assert not train & mixed
    assert not train & test
    assert not mixed & test


def test_the_mixed_batch_has_the_share_that_is_told(task):
    # The test is the other half of the same samples, so its labels tell.
    assert 10 <= task.outlier_perc <= 31
    assert 100 * np.mean(task.y_test) == pytest.approx(task.outlier_perc, abs=1.5)
    assert len(task.X_mixed) == len(task.X_test) == len(task.y_test)


def test_another_seed_is_another_split(make_task, task):
    assert rows_of(make_task(0).X_train) == rows_of(task.X_train)
    assert rows_of(make_task(1).X_train) != rows_of(task.X_train)


def test_what_is_told_of_a_task_is_so(task):
    text = task.describe()
    assert text.startswith(task.name)
    assert f"for {task.epochs} epochs on {len(task.X_train)} normal" in text
    assert f"batch of {len(task.X_mixed)}, of which {task.outlier_perc:.3g} %" in text
    assert f"evaluated on {len(task.X_test)} other samples" in text


def test_names_of_tasks_differ():
    assert len({make_task(0).name for make_task in TASKS}) == len(TASKS)


def test_the_table_has_numbers_words_and_gaps():
    table, _, _ = (make_task(0) for make_task in TASKS)
    assert table.is_table
    radii = table.X_test.columns[table.X_test.position("mean radius")]
    is_anomaly = table.y_test == 1
    assert np.nanmean(radii[is_anomaly]) > np.nanmean(radii[~is_anomaly]) + 3
    numbers = np.stack(table.X_train.columns[:10])
    assert 0.05 < np.isnan(numbers).mean() < 0.12
    assert all(set(column) <= WORDS for column in table.X_train.columns[10:])
    obstacles = table.X_train.obstacles()
    assert set(table.X_train.names[10:]) <= set(obstacles)


def test_one_digit_is_normal():
    _, one_normal, _ = (make_task(0) for make_task in TASKS)
    assert not one_normal.is_table
    assert one_normal.X_train.shape[1:] == (8, 8)
    # 174 images are eights.
    assert len(one_normal.X_train) + 2 * np.sum(one_normal.y_test == 0) <= 174


def test_a_defect_changes_a_part_of_a_view():
    photographs = TASKS[-1](0)
    assert photographs.X_train.shape[1:] == (64, 64, 3)
    plain = photographs.X_test[photographs.y_test == 0]
    rng = np.random.default_rng(0)
    changed = [(_with_defect(image, rng) != image).any(axis=-1).mean() for image in plain]
    assert min(changed) > 0.001
    assert max(changed) < 0.1


def test_the_backbone_is_taken_where_its_weights_are(monkeypatch):
    for spec, parameters in ((None, {}), (object(), {"backbone": "efficientnet-lite0"})):
        monkeypatch.setattr("importlib.util.find_spec", lambda _, spec=spec: spec)
        task = TASKS[-1](0)
        given = task.parameters["RDNADetector"]
        assert given.items() >= parameters.items()
        assert ("pretrained" in task.what_is_normal) == bool(parameters)
