import inspect

import gandetect.datasets
from gandetect.datasets import DATASETS


def test_every_public_name_is_there_and_documented():
    for name in gandetect.datasets.__all__:
        assert inspect.getdoc(getattr(gandetect.datasets, name))


def test_every_loader_is_listed():
    loaders = {name for name in gandetect.datasets.__all__ if name.startswith("load_")}
    assert {loader.__name__ for loader in DATASETS.values()} == loaders
    assert all(loader.__name__ == f"load_{name}" for name, loader in DATASETS.items())
