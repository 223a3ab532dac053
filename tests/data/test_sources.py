"""Sources, lazy ones among them, and the batches that come from them."""

import threading

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

import gandetect.data.sources
from gandetect import ConvNet
from gandetect.data.images import DataFileError, ImageFiles, ImageFolder
from gandetect.data.sources import (
    ArraySource,
    DatasetSource,
    TrainingData,
    blocks,
    channels_first,
    channels_restored,
    read_in_turn,
    sample_shape_of,
    scoring_blocks,
)

CPU = torch.device("cpu")
TINY = ConvNet(n_filters=2)


def as_tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def mapped(X, path, mode="r"):
    """The array as a memory map of a file."""
    copy = np.memmap(path, dtype=X.dtype, mode="w+", shape=X.shape)
    copy[:] = X
    copy.flush()
    return np.memmap(path, dtype=X.dtype, mode=mode, shape=X.shape)


class Counting(Dataset):
    """Counts how often each sample is read."""

    def __init__(self, X):
        self.X = X
        self.n_reads = np.zeros(len(X), dtype=int)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.n_reads[i] += 1
        return self.X[i]


class TestMemoryMaps:
    @pytest.mark.parametrize("resident_bytes", [2**28, 0], ids=["resident", "batch by batch"])
    @pytest.mark.parametrize("kind", ["rows", "images"])
    def test_the_same_bits_as_in_memory(
        self, request, Detector, make, tmp_path, monkeypatch, kind, resident_bytes
    ):
        X = request.getfixturevalue(kind)[:90].astype(np.float32)
        architecture = TINY if kind == "images" else None
        monkeypatch.setattr(gandetect.data.sources, "_RESIDENT_BYTES", resident_bytes)
        detector = make(Detector, architecture=architecture).fit(X)
        on_disk = mapped(X, tmp_path / "X")
        other = make(Detector, architecture=architecture).fit(on_disk)
        np.testing.assert_array_equal(other.anomaly_score(X), detector.anomaly_score(X))
        for method in ("anomaly_score", "transform", "reconstruct", "anomaly_map"):
            np.testing.assert_array_equal(
                getattr(other, method)(on_disk), getattr(detector, method)(X)
            )

    @pytest.mark.parametrize("mode", ["r", "r+", "c"])
    def test_changes_are_neither_lost_nor_written(self, Detector, make, rows, tmp_path, mode):
        X = mapped(rows[:40], tmp_path / "X", mode)
        if mode != "r":
            X[3] = 7.0
        expected = X.copy()
        make(Detector, epochs=1).fit(X).predict(X)
        np.testing.assert_array_equal(X, expected)

    def test_8_bit_images_and_flat_rows(self, Detector, make, tmp_path):
        X = np.random.default_rng(0).integers(0, 256, size=(30, 48), dtype=np.uint8)
        parameters = {"architecture": TINY, "image_shape": (4, 4, 3), "epochs": 1}
        detector = make(Detector, **parameters).fit(mapped(X, tmp_path / "X"))
        np.testing.assert_array_equal(
            detector.anomaly_score(X), make(Detector, **parameters).fit(X).anomaly_score(X)
        )

    def test_a_part_of_a_map(self, Detector, make, rows, tmp_path):
        X = mapped(rows[:90], tmp_path / "X")
        part = X[10:80:2]
        detector = make(Detector, epochs=1).fit(part)
        np.testing.assert_array_equal(
            detector.anomaly_score(part), detector.anomaly_score(np.array(part))
        )


class TestDatasets:
    @pytest.mark.parametrize(
        "wrap", [lambda X: TensorDataset(X), lambda X: TensorDataset(X, torch.zeros(len(X)))]
    )
    def test_it_scores_as_an_array_does(self, Detector, make, rows, wrap):
        X = rows[:60].astype(np.float32)
        detector = make(Detector).fit(wrap(torch.from_numpy(X)))
        np.testing.assert_array_equal(
            detector.anomaly_score(wrap(torch.from_numpy(X))), detector.anomaly_score(X)
        )
        assert detector.n_features_in_ == 6

    def test_images(self, Detector, make, images):
        dataset = Counting(images[:20])
        detector = make(Detector, architecture=TINY).fit(dataset)
        assert detector.input_shape_ == (9, 13, 3)
        assert detector.reconstruct(dataset).shape == (20, 9, 13, 3)

    def test_an_epoch_reads_each_sample_once(self, Detector, make, rows):
        dataset = Counting(rows[:50])
        make(Detector, epochs=1).fit(dataset)
        once = dataset.n_reads.copy()
        dataset.n_reads[:] = 0
        make(Detector, epochs=4).fit(dataset)
        assert set(dataset.n_reads[1:] - once[1:]) == {3}

    def test_samples_of_several_shapes(self, Detector, make):
        ragged = Counting([np.ones(3), np.ones(3), np.ones(4)])
        with pytest.raises(ValueError, match=r"Sample 2 of the dataset has shape \(4,\)"):
            make(Detector).fit(ragged)

    @pytest.mark.parametrize("sample", [np.array(["a", "b"]), np.ones(2) * 1j])
    def test_samples_that_are_no_numbers(self, Detector, make, sample):
        with pytest.raises(TypeError, match="must be numeric"):
            make(Detector).fit(Counting([sample] * 4))


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        Image = pytest.importorskip("PIL.Image")
        X = np.random.default_rng(0).integers(0, 256, size=(12, 9, 7, 3), dtype=np.uint8)
        (tmp_path / "more").mkdir()
        for i, x in enumerate(X):
            parent = tmp_path / "more" if i > 8 else tmp_path
            Image.fromarray(x).save(parent / f"{i:02d}.png")
        (tmp_path / "notes.txt").write_text("not an image")
        return tmp_path, X

    @pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["str", "Path"])
    def test_it_is_the_array_of_its_images(self, Detector, make, folder, as_path):
        path, X = folder
        detector = make(Detector, architecture=TINY).fit(as_path(path))
        assert detector.input_shape_ == (9, 7, 3)
        np.testing.assert_array_equal(
            detector.anomaly_score(as_path(path)), detector.anomaly_score(X)
        )
        np.testing.assert_array_equal(detector.reconstruct(path), detector.reconstruct(X))

    def test_gray_and_resized(self, Detector, make, folder):
        path, _ = folder
        images = ImageFolder(path, image_size=(8, 6))
        assert len(images) == 12
        assert images[0].shape == (8, 6, 3)
        assert make(Detector, architecture=TINY).fit(images).predict(images).shape == (12,)


class TestReadingAhead:
    @pytest.fixture
    def folder(self, tmp_path):
        Image = pytest.importorskip("PIL.Image")
        X = np.random.default_rng(0).integers(0, 256, size=(40, 9, 13), dtype=np.uint8)
        for i, x in enumerate(X):
            Image.fromarray(x).save(tmp_path / f"{i:02d}.png")
        return tmp_path

    @pytest.fixture
    def read_by(self, folder, monkeypatch):
        """The threads that read images, in order; torch uses as many as there are cores or one."""

        def spied(n_cores, n_threads=1):
            threads = []
            read = DatasetSource.read
            monkeypatch.setattr(
                DatasetSource,
                "read",
                lambda self, index: (
                    threads.append(threading.current_thread().name) or read(self, index)
                ),
            )
            monkeypatch.setattr(gandetect.data.sources.joblib, "cpu_count", lambda: n_cores)
            monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
            return threads

        return spied

    parts = tuple(slice(start, start + 10) for start in range(0, 40, 10))

    @pytest.mark.parametrize(("n_cores", "n_threads", "ahead"), [(2, 1, 1), (1, 1, 0), (4, 4, 0)])
    def test_a_thread_reads_where_a_core_is_free(self, folder, read_by, n_cores, n_threads, ahead):
        images = ImageFolder(folder)
        threads = read_by(n_cores, n_threads)
        x = list(read_in_turn(DatasetSource(images, None), self.parts))
        np.testing.assert_array_equal(np.concatenate(x)[:, 0], images.stack())
        assert len(threads) == 4
        assert sum(name.startswith("gandetect-reading") for name in threads) == 4 * ahead

    def test_the_next_part_is_read_while_the_caller_works(self, folder, read_by):
        threads = read_by(2)
        parts = read_in_turn(DatasetSource(ImageFolder(folder), None), self.parts)
        next(parts)
        parts.close()  # waits for the thread, which is given no more than the next part
        assert len(threads) == 2

    def test_the_same_bits(self, Detector, make, folder, read_by):
        images = ImageFolder(folder)
        results = []
        for n_cores in (1, 2):
            threads = read_by(n_cores)
            detector = make(Detector, architecture=TINY, batch_size=8, epochs=2).fit(images)
            results.append([detector.anomaly_score(images), detector.reconstruct(images)])
            assert any(name.startswith("gandetect-reading") for name in threads) == (n_cores > 1)
        for alone, ahead in zip(*results, strict=True):
            np.testing.assert_array_equal(alone, ahead)

    def test_what_a_file_says_reaches_the_caller(self, folder, read_by):
        source = DatasetSource(ImageFolder(folder), None)
        (folder / "25.png").write_bytes(b"no image")
        read_by(2)
        parts = read_in_turn(source, self.parts)
        assert [len(next(parts)), len(next(parts))] == [10, 10]
        with pytest.raises(DataFileError, match=r"25\.png"):
            next(parts)
        assert not [t for t in threading.enumerate() if t.name.startswith("gandetect-reading")]

    def test_what_may_be_read_by_a_thread(self, folder):
        class Augmented(ImageFolder):
            def __getitem__(self, index):
                return super().__getitem__(index) + torch.randint(2, ()).numpy()

        images = ImageFolder(folder)
        for dataset in (images, Subset(Subset(images, range(9)), [1, 2]), ImageFiles(images.paths)):
            assert DatasetSource(dataset, None).is_slow
        for dataset in (
            Augmented(folder),
            Subset(Augmented(folder), [0]),
            Counting(np.ones((3, 1))),
        ):
            assert not DatasetSource(dataset, None).is_slow


class TestShapes:
    @pytest.mark.parametrize(
        ("shape", "channel_axis", "expected"),
        [
            ((4,), -1, (4,)),
            ((5, 7), -1, (1, 5, 7)),
            ((5, 7), None, (1, 5, 7)),
            ((5, 7, 3), -1, (3, 5, 7)),
            ((3, 5, 7), 0, (3, 5, 7)),
        ],
    )
    def test_sample_shape(self, shape, channel_axis, expected):
        assert sample_shape_of(shape, channel_axis) == expected
        x = np.random.default_rng(0).normal(size=(2, *shape))
        there = channels_first(x, expected, channel_axis)
        assert there.shape == (2, *expected)
        np.testing.assert_array_equal(channels_restored(there, shape, channel_axis), x)

    def test_where_a_pixel_goes(self):
        x = np.zeros((1, 2, 3, 4))
        x[0, 1, 2, 3] = 1.0
        assert channels_first(x, (4, 2, 3), -1)[0, 3, 1, 2] == 1.0

    def test_too_many_axes(self):
        with pytest.raises(ValueError, match=r"row .* or an image"):
            sample_shape_of((2, 3, 4, 5), -1)


class TestBlocks:
    def test_they_are_all_samples_in_order(self, monkeypatch):
        monkeypatch.setattr(gandetect.data.sources, "_VALUES_A_BLOCK", 12)
        X = np.arange(40.0).reshape(10, 4)
        parts = list(blocks(ArraySource(X, (4,))))
        assert [len(part) for part in parts] == [3, 3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(parts), X)

    def test_a_sample_larger_than_a_block(self, monkeypatch):
        monkeypatch.setattr(gandetect.data.sources, "_VALUES_A_BLOCK", 3)
        assert len(list(blocks(ArraySource(np.ones((4, 5)), (5,))))) == 4

    def test_blocks_of_scoring_have_one_size(self):
        X = np.arange(20.0).reshape(10, 2)
        parts = list(scoring_blocks(ArraySource(X, (2,)), None, as_tensor, 4, CPU))
        assert [(tuple(x.shape), n) for x, n in parts] == [((4, 2), 4), ((4, 2), 4), ((4, 2), 2)]
        np.testing.assert_array_equal(torch.cat([x[:n] for x, n in parts]), X)

    def test_some_samples(self):
        X = np.arange(20.0).reshape(10, 2)
        rows = np.array([7, 1, 3])
        ((x, n),) = scoring_blocks(ArraySource(X, (2,)), rows, as_tensor, 8, CPU)
        assert n == 3
        np.testing.assert_array_equal(x[:3], X[rows])


class TestTrainingData:
    def batches(self, source, n, n_members=2, batch_size=4):
        data = TrainingData(source, np.arange(n), as_tensor, n_members, batch_size, CPU)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            epoch = list(data.epoch())
        assert len(epoch) == data.n_batches
        return epoch

    @pytest.fixture(params=["resident", "array in parts", "dataset"])
    def source_of(self, request, monkeypatch):
        if request.param == "array in parts":
            monkeypatch.setattr(gandetect.data.sources, "_RESIDENT_BYTES", 0)
        if request.param == "dataset":
            return lambda X: DatasetSource(Counting(X), -1)
        return lambda X: ArraySource(X, X.shape[1:])

    @pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 9, 10, 11, 17])
    @pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
    def test_every_sample_once_in_batches_of_two_or_more(self, source_of, n, batch_size):
        X = np.arange(float(n)).reshape(n, 1)
        epoch = self.batches(source_of(X), n, batch_size=batch_size)
        sizes = [x.shape[1] for x in epoch]
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        for member in torch.cat(epoch, dim=1):
            assert sorted(member.ravel().tolist()) == X.ravel().tolist()

    def test_members_have_their_own_shuffles(self):
        X = np.arange(40.0).reshape(40, 1)
        one, other = torch.cat(self.batches(ArraySource(X, (1,)), 40), dim=1)
        assert not torch.equal(one, other)
        assert not torch.equal(one.ravel(), torch.arange(40.0))

    def test_held_samples_are_left_out(self, source_of):
        X = np.arange(10.0).reshape(10, 1)
        data = TrainingData(source_of(X), np.array([1, 4, 5, 9]), as_tensor, 1, 2, CPU)
        assert sorted(torch.cat(list(data.epoch()), dim=1).ravel().tolist()) == [1, 4, 5, 9]
