"""Readers for data sets as they are published, and the splits that make them one-class problems.

Every reader looks in a `data_dir`, or in the folder that the environment variable
``GANDETECT_DATA`` names, and returns a `sklearn.utils.Bunch` with ``data`` and ``target``. A
missing file raises `FileNotFoundError`, whose message names the file and its folder; a damaged file
raises `DataFileError`.
"""

from gandetect.data.images import DataFileError, ImageFiles, ImageFolder
from gandetect.datasets.adbench import list_adbench, load_adbench
from gandetect.datasets.cifar10 import load_cifar10
from gandetect.datasets.files import resolve_data_dir
from gandetect.datasets.idx import read_idx
from gandetect.datasets.kddcup99 import load_kddcup99
from gandetect.datasets.labelled import load_labelled_images
from gandetect.datasets.mnist import load_fashion_mnist, load_mnist
from gandetect.datasets.mvtec import load_mvtec
from gandetect.datasets.splits import one_class_rows_split, one_class_split
from gandetect.datasets.textures import iter_textures
from gandetect.datasets.windows import sliding_windows

__all__ = [
    "DataFileError",
    "ImageFiles",
    "ImageFolder",
    "iter_textures",
    "list_adbench",
    "load_adbench",
    "load_cifar10",
    "load_fashion_mnist",
    "load_kddcup99",
    "load_labelled_images",
    "load_mnist",
    "load_mvtec",
    "one_class_rows_split",
    "one_class_split",
    "read_idx",
    "resolve_data_dir",
    "sliding_windows",
]
