import re
from pathlib import Path

import pytest

import gandetect
from gandetect.cli.wording import WORDINGS, for_commands

SOURCES = [
    path for path in Path(gandetect.__file__).parent.rglob("*.py") if "cli" not in path.parts
]
# Literals that stand one after the other, as Python joins them.
JOINED = [
    re.sub(r"""["']\s+f?["']""", "", source.read_text(encoding="utf-8")) for source in SOURCES
]


@pytest.mark.parametrize("in_python", [in_python for in_python, _ in WORDINGS])
def test_the_package_says_so(in_python):
    assert any(in_python in source for source in JOINED)


def test_options_in_place_of_arguments():
    message = "b has no\nother size. Pass image_size=(height, width) to bring images to one"
    assert for_commands(message) == (
        "b has no other size. --image-size HEIGHT,WIDTH brings images to one"
    )
