"""What a user pastes into a report of a problem."""

from importlib import metadata

import pytest
import sklearn
import torch

from gandetect import versions


@pytest.fixture
def printed(capsys):
    versions.show_versions()
    return capsys.readouterr().out.split("\n")


def test_the_versions_of_what_is_installed(printed):
    assert f"    scikit-learn: {sklearn.__version__}" in printed
    assert f"    torch: {metadata.version('torch')}" in printed
    assert f"    build: {torch.__version__}" in printed


def test_what_is_not_installed_is_a_dash(monkeypatch, capsys):
    monkeypatch.setattr(
        versions.metadata,
        "requires",
        lambda _: ["torch>=2.5", 'no-such-package>=1; extra == "plot"', 'ruff; extra == "lint"'],
    )
    versions.show_versions()
    printed = capsys.readouterr().out
    assert "Extra plot\n    no-such-package: -\n" in printed
    assert "ruff" not in printed


def test_source_that_was_never_installed(monkeypatch, capsys):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions.metadata, "requires", unknown)
    versions.show_versions()
    assert f"    scikit-learn: {sklearn.__version__}\n" in capsys.readouterr().out


def test_all_devices_are_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", "card {}".format)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    versions.show_versions()
    assert "    devices: cpu, card 0, card 1\n" in capsys.readouterr().out
