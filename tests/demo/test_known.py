import pytest

from gandetect.demo.known import N_KNOWN, Known, known_table, with_and_without


def test_known_anomalies_help():
    without, with_known, trees = with_and_without(seed=0, epochs=3)
    assert (without.n_known, with_known.n_known, trees.n_known) == (0, N_KNOWN, N_KNOWN)
    assert with_known.roc_auc > without.roc_auc + 0.05
    assert with_known.average_precision > without.average_precision
    assert trees.roc_auc > 0.7


def test_table():
    line = known_table([Known(method="a method", n_known=10, roc_auc=0.9, average_precision=0.5)])
    assert line.split("\n")[1].split() == ["a", "method", "10", "0.900", "0.500"]


@pytest.mark.parametrize("n", [0, 10])
def test_the_columns_of_the_table_are_aligned(n):
    result = Known(method="AdversarialVAEDetector", n_known=n, roc_auc=1.0, average_precision=1.0)
    head, line, _ = known_table([result]).split("\n")
    assert len(head) == len(line)
