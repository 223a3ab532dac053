"""The demo's attack on a classifier."""

import pytest

from gandetect.demo.attack import ATTACKS, Defence, attack_and_defend, defence_table


@pytest.fixture(scope="module")
def defences():
    return attack_and_defend(seed=0, epochs=20)


def test_the_attacks_fool_and_the_detector_mends(defences):
    assert [defence.attack for defence in defences] == list(ATTACKS)
    for defence in defences:
        assert defence.accuracy_clean > 0.9
        assert defence.accuracy_attacked < 0.5
        assert defence.accuracy_corrected > defence.accuracy_attacked + 0.1
        assert 0.2 < defence.share_caught <= 1


def test_table():
    defence = Defence(
        attack="small",
        accuracy_clean=0.97,
        accuracy_attacked=0.1,
        accuracy_corrected=0.8,
        share_caught=0.912,
    )
    line = defence_table([defence]).split("\n")[1]
    assert line.split() == ["PGD,", "small", "97.0%", "10.0%", "80.0%", "91.2%"]
