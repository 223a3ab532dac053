"""What users pass as a set of samples."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gandetect.data.items import check_dataset, sample_of


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(2)])


class TestDatasets:
    def test_a_loader_names_its_dataset(self):
        with pytest.raises(TypeError, match=r"DataLoader.*pass its dataset, loader\.dataset"):
            check_dataset(DataLoader(TensorDataset(torch.zeros(4, 2))))

    @pytest.mark.parametrize("X", [Stream(), iter([1]), (x for x in [1])])
    def test_no_samples_by_index(self, X):
        with pytest.raises(TypeError, match=rf"X is of the type {type(X).__name__}, .*__getitem__"):
            check_dataset(X)

    @pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
    def test_arrays_of_several_shapes(self, kind):
        X = [kind((16, 16)), kind((16, 20)), kind((16, 16))]
        with pytest.raises(ValueError, match=r"2 shapes, such as \(16, 16\) and \(16, 20\): bring"):
            check_dataset(X)

    def test_what_can_be_read(self):
        tensor = torch.zeros(4, 2)
        for X in (tensor, TensorDataset(tensor), np.zeros((4, 2)), [[1, 2], [3, 4]], "photos"):
            assert check_dataset(X) is None
        assert check_dataset([np.zeros((8, 8)), np.ones((8, 8))]) is None


class TestItems:
    @pytest.mark.parametrize(
        "item",
        [
            [[1, 2], "label"],
            np.array([1, 2]),
            (torch.tensor([1, 2]), 0),
            torch.tensor([1.0, 2.0], requires_grad=True),
            torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
            torch.tensor([1.0, 2.0], dtype=torch.float16),
        ],
    )
    def test_samples(self, item):
        sample = sample_of(item, 0)
        assert isinstance(sample, np.ndarray)
        assert sample.tolist() == [1, 2]

    def test_an_image_of_pillow(self):
        assert sample_of((Image.new("L", (3, 2)), 0), 0).shape == (2, 3)

    def test_a_dict_names_its_keys(self):
        with pytest.raises(TypeError, match=r"Sample 7 .* keys 'image' and 'y'.*item\['image'\]"):
            sample_of({"image": 1, "y": 2}, 7)

    @pytest.mark.parametrize("item", ["a word", (None, 1), np.array(["a"])])
    def test_what_is_no_number(self, item):
        with pytest.raises(TypeError, match="numeric arrays, but sample 3 is of the type"):
            sample_of(item, 3)
