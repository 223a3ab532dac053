"""Whatever X is, the detector reads the same samples from it; and batches that come from them."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

import gandetect.data.sources
from gandetect import ConvNet, GANomalyDetector, RDNADetector
from gandetect.data.images import DataFileError, ImageFiles, ImageFolder
from gandetect.data.sources import (
    ArraySource,
    DatasetSource,
    Layout,
    TrainingData,
    blocks,
    in_order,
    parts_of,
    read,
    read_in_turn,
    sample_shape_of,
    scoring_blocks,
)
from tests.helpers import one_detector

CPU = torch.device("cpu")
TINY = ConvNet(n_filters=2)


def of_rows(X):
    """Rows as a source."""
    return ArraySource(X, Layout(X.shape[1:], X.shape[1:], -1))


def as_tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def small(**parameters):
    return GANomalyDetector(**{"epochs": 1, "n_estimators": 1, "random_state": 0, **parameters})


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
    @pytest.mark.parametrize(
        ("kind", "resident_bytes"), [("rows", 2**28), ("rows", 0), ("images", 0)]
    )
    @one_detector
    def test_the_same_bits_as_in_memory(
        self, request, Detector, make, tmp_path, monkeypatch, kind, resident_bytes
    ):
        X = request.getfixturevalue(kind)[:60].astype(np.float32)
        architecture = TINY if kind == "images" else None
        monkeypatch.setattr(gandetect.data.sources, "_RESIDENT_BYTES", resident_bytes)
        detector = make(Detector, architecture=architecture).fit(X)
        on_disk = mapped(X, tmp_path / "X")
        other = make(Detector, architecture=architecture).fit(on_disk)
        np.testing.assert_array_equal(other.anomaly_score(X), detector.anomaly_score(X))
        for method in ("anomaly_score", "reconstruct"):
            np.testing.assert_array_equal(
                getattr(other, method)(on_disk), getattr(detector, method)(X)
            )

    @pytest.mark.parametrize("mode", ["r", "r+", "c"])
    def test_changes_are_neither_lost_nor_written(self, rows, tmp_path, mode):
        X = mapped(rows[:40], tmp_path / "X", mode)
        if mode != "r":
            X[3] = 7.0
        expected = X.copy()
        small().fit(X).predict(X)
        np.testing.assert_array_equal(X, expected)

    def test_8_bit_images_and_flat_rows(self, tmp_path):
        X = np.random.default_rng(0).integers(0, 256, size=(30, 48), dtype=np.uint8)
        parameters = {"architecture": TINY, "image_shape": (4, 4, 3)}
        detector = small(**parameters).fit(mapped(X, tmp_path / "X"))
        np.testing.assert_array_equal(
            detector.anomaly_score(X), small(**parameters).fit(X).anomaly_score(X)
        )

    def test_a_part_of_a_map(self, rows, tmp_path):
        X = mapped(rows[:90], tmp_path / "X")
        part = X[10:80:2]
        detector = small().fit(part)
        np.testing.assert_array_equal(
            detector.anomaly_score(part), small().fit(np.array(part)).anomaly_score(rows[10:80:2])
        )

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not let go of a mapped file")
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("change", ["replaced", "unlinked", "renamed"])
    def test_it_is_read_through_the_array_and_not_by_its_path(self, rows, tmp_path, order, change):
        """A map keeps its data, whatever becomes of the name of its file."""
        path = tmp_path / "x.npy"
        np.save(path, np.asarray(rows[:60], order=order))
        X = np.load(path, mmap_mode="r")
        expected = small().fit(rows[:60]).anomaly_score(rows[:60])
        if change == "replaced":
            np.save(tmp_path / "new.npy", rows[:60] + 5)
            os.replace(tmp_path / "new.npy", path)
        elif change == "unlinked":
            path.unlink()
        else:
            path.rename(tmp_path / "elsewhere.npy")
        np.testing.assert_array_equal(small().fit(X).anomaly_score(X), expected)

    def test_values_that_are_not_finite_are_told(self, rows, tmp_path):
        X = rows[:60].copy()
        X[50, 2] = np.nan
        with pytest.raises(ValueError, match="NaN or infinity"):
            small().fit(mapped(X, tmp_path / "X"))

    @pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
    def test_memory_stays_flat(self, tmp_path):
        """A map of 300 MiB is trained on and scored, and its pages are given back."""
        run = [sys.executable, "-W", "ignore", "-c", LARGE_MAP, str(tmp_path / "X")]
        done = subprocess.run(run, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        before, after = map(int, done.stdout.split())
        # 204 MiB if they were not; some are there ahead of their turn, more on a busy machine.
        assert after - before < 160 * 1024


# Prints the most resident memory in KiB: of a fit to the first 96 MiB, and of one to 300 MiB.
LARGE_MAP = """
import sys
import numpy as np
import gandetect.data.sources
from gandetect import MLP, GANomalyDetector

def most():
    with open("/proc/self/status") as status:
        return next(line.split()[1] for line in status if line.startswith("VmHWM"))

gandetect.data.sources._RESIDENT_BYTES = 0
block = np.random.default_rng(0).random(size=(2**9, 256)).tobytes()
with open(sys.argv[1], "wb") as file:
    for _ in range(300):
        file.write(block)
X = np.memmap(sys.argv[1], np.float64, "r", shape=(300 * 2**9, 256))
detector = GANomalyDetector(
    epochs=1, n_estimators=1, batch_size=2**13, architecture=MLP(hidden_dims=(4,)), latent_dim=2,
    score="reconstruction", scaling="unit", device="cpu", random_state=0,
)
for n in (3 * 2**14, len(X)):
    assert len(detector.fit(X[:n]).predict(X[:n])) == n
    print(most())
"""


class TestDatasets:
    @pytest.mark.parametrize(
        "wrap", [lambda X: TensorDataset(X), lambda X: TensorDataset(X, torch.zeros(len(X)))]
    )
    @one_detector
    def test_it_scores_as_an_array_does(self, Detector, make, rows, wrap):
        X = rows[:60].astype(np.float32)
        detector = make(Detector).fit(wrap(torch.from_numpy(X)))
        np.testing.assert_array_equal(
            detector.anomaly_score(wrap(torch.from_numpy(X))), detector.anomaly_score(X)
        )
        assert detector.n_features_in_ == 6

    @one_detector
    def test_images(self, Detector, make, images):
        dataset = Counting(images[:20])
        detector = make(Detector, architecture=TINY).fit(dataset)
        assert detector.input_shape_ == (9, 13, 3)
        assert detector.reconstruct(dataset).shape == (20, 9, 13, 3)

    def test_an_epoch_reads_each_sample_once(self, rows):
        dataset = Counting(rows[:50])
        small().fit(dataset)
        once = dataset.n_reads.copy()
        dataset.n_reads[:] = 0
        small(epochs=4).fit(dataset)
        assert set(dataset.n_reads[1:] - once[1:]) == {3}

    def test_samples_of_several_shapes(self):
        ragged = Counting([np.ones(3), np.ones(3), np.ones(4)])
        with pytest.raises(ValueError, match=r"Sample 2 of the dataset has shape \(4,\)"):
            small().fit(ragged)

    @pytest.mark.parametrize("sample", [np.array(["a", "b"]), np.ones(2) * 1j])
    def test_samples_that_are_no_numbers(self, sample):
        with pytest.raises(TypeError, match="numeric"):
            small().fit(Counting([sample] * 4))

    @pytest.mark.parametrize("length", [-1, 2.5, None])
    def test_a_length_that_is_none(self, length):
        class Odd(Counting):
            def __len__(self):
                return length

        odd = Odd(np.ones(3))
        with pytest.raises(TypeError, match=r"length of the dataset, a Odd, cannot be read \("):
            DatasetSource(odd, -1)


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        Image = pytest.importorskip("PIL.Image")
        X = np.random.default_rng(0).integers(0, 256, size=(12, 9, 7, 3), dtype=np.uint8)
        (tmp_path / "more").mkdir()
        for i, x in enumerate(X):
            parent = tmp_path / "more" if i > 8 else tmp_path
            Image.fromarray(x).save(parent / f"{i:02d}.png")
        return tmp_path, X

    @pytest.mark.parametrize("as_path", [str, lambda path: path], ids=["str", "Path"])
    @one_detector
    def test_it_is_the_array_of_its_images(self, Detector, make, folder, as_path):
        path, X = folder
        detector = make(Detector, architecture=TINY).fit(as_path(path))
        assert detector.input_shape_ == (9, 7, 3)
        np.testing.assert_array_equal(
            detector.anomaly_score(as_path(path)), detector.anomaly_score(X)
        )
        np.testing.assert_array_equal(detector.reconstruct(path), detector.reconstruct(X))

    def test_gray_and_resized(self, folder):
        path, _ = folder
        images = ImageFolder(path, image_size=(8, 6))
        assert len(images) == 12
        assert images[0].shape == (8, 6, 3)
        assert small(architecture=TINY).fit(images).predict(images).shape == (12,)

    @pytest.mark.parametrize("kind", [str, ImageFolder, "keep_aspect", "paths"])
    def test_anomalies_among_them_are_told(self, folder, kind):
        path, X = folder
        for i in (2, 3):
            (path / f"{i:02d}.png").rename(path / f"defect_{i}.png")
        paths = sorted(path.rglob("*.png"))
        X = {
            "keep_aspect": ImageFolder(path, image_size=9, keep_aspect=True),
            "paths": ImageFiles(paths),
        }.get(kind) or kind(path)
        if kind == "keep_aspect":  # one image of another shape, so that they are read by shape
            Image = pytest.importorskip("PIL.Image")
            Image.new("RGB", (9, 9)).save(path / "00.png")
        with pytest.warns(
            UserWarning, match=r"^By their file names, 2 of the 12.* \(defect: 2\), but are used"
        ):
            read(RDNADetector(), X)
        is_kept = np.array(["defect" not in file.name for file in paths])
        read(RDNADetector(labels="exclude"), X, None, is_kept)

    def test_a_folder_of_anomalies_beside_is_told(self, folder):
        path, _ = folder
        (path / "more").rename(path / "bad")
        with pytest.warns(UserWarning, match=r"^By their paths, 3 of the 12 images in .* \(bad\)"):
            read(RDNADetector(), path)


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

    def test_the_same_bits(self, folder, read_by):
        images = ImageFolder(folder)
        results = []
        for n_cores in (1, 2):
            threads = read_by(n_cores)
            detector = small(architecture=TINY, batch_size=8).fit(images)
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
        layout = Layout(shape, expected, channel_axis)
        x = np.random.default_rng(0).normal(size=(2, *shape))
        there = layout.channels_first(x)
        assert there.shape == (2, *expected)
        np.testing.assert_array_equal(layout.restored(there), x)
        assert (layout.is_image, layout.n_values) == (len(shape) > 1, np.prod(shape))
        np.testing.assert_array_equal(layout.channels_first(torch.from_numpy(x)), there)

    def test_flat_rows_are_flat_again(self):
        layout = Layout((5, 7, 3), (3, 5, 7), -1, is_flat=True)
        x = np.random.default_rng(0).normal(size=(2, 105))
        there = layout.channels_first(x)
        np.testing.assert_array_equal(layout.restored(there), x)
        np.testing.assert_array_equal(layout.restored(there, flat=False), x.reshape(2, 5, 7, 3))

    def test_where_a_pixel_goes(self):
        x = np.zeros((1, 2, 3, 4))
        x[0, 1, 2, 3] = 1.0
        assert Layout((2, 3, 4), (4, 2, 3), -1).channels_first(x)[0, 3, 1, 2] == 1.0

    def test_too_many_axes(self):
        with pytest.raises(ValueError, match=r"row .* or an image"):
            sample_shape_of((2, 3, 4, 5), -1)

    def test_three_axes_of_which_none_holds_channels(self):
        with pytest.raises(ValueError, match="channel_axis=-1 or channel_axis=0"):
            sample_shape_of((3, 4, 5), None)


class TestBlocks:
    def test_they_are_all_samples_in_order(self, monkeypatch):
        monkeypatch.setattr(gandetect.data.sources, "_VALUES_A_BLOCK", 12)
        X = np.arange(40.0).reshape(10, 4)
        parts = list(blocks(of_rows(X)))
        assert [len(part) for part in parts] == [3, 3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(parts), X)

    def test_a_sample_larger_than_a_block(self, monkeypatch):
        monkeypatch.setattr(gandetect.data.sources, "_VALUES_A_BLOCK", 3)
        assert len(list(blocks(of_rows(np.ones((4, 5)))))) == 4

    def test_blocks_of_scoring_are_filled_up_by_their_first_sample(self):
        X = np.arange(22.0).reshape(11, 2)
        parts = list(scoring_blocks(of_rows(X), None, as_tensor, 4, 2, CPU))
        assert [(tuple(x.shape), n) for x, n in parts] == [((4, 2), 4), ((4, 2), 4), ((4, 2), 3)]
        np.testing.assert_array_equal(torch.cat([x[:n] for x, n in parts]), X)
        np.testing.assert_array_equal(parts[-1][0][3], X[8])

    def test_some_samples(self):
        X = np.arange(20.0).reshape(10, 2)
        rows = np.array([7, 1, 3])
        ((x, n),) = scoring_blocks(of_rows(X), rows, as_tensor, 8, 8, CPU)
        assert (len(x), n) == (8, 3)
        np.testing.assert_array_equal(x[:3], X[rows])


class TestTrainingData:
    def data(self, source, rows, n_members, batch_size, **given):
        generator = torch.Generator().manual_seed(0)
        return TrainingData(source, rows, as_tensor, n_members, batch_size, CPU, generator, **given)

    def batches(self, source, n, n_members=2, batch_size=4):
        data = self.data(source, np.arange(n), n_members, batch_size)
        epoch = list(data.epoch())
        assert len(epoch) == data.n_batches
        return epoch

    @pytest.fixture(params=["resident", "array in parts", "dataset"])
    def source_of(self, request, monkeypatch):
        if request.param == "array in parts":
            monkeypatch.setattr(gandetect.data.sources, "_RESIDENT_BYTES", 0)
        if request.param == "dataset":
            return lambda X: DatasetSource(Counting(X), -1)
        return of_rows

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
        one, other = torch.cat(self.batches(of_rows(X), 40), dim=1)
        assert not torch.equal(one, other)
        assert not torch.equal(one.ravel(), torch.arange(40.0))

    def test_held_samples_are_left_out(self, source_of):
        X = np.arange(10.0).reshape(10, 1)
        data = self.data(source_of(X), np.array([1, 4, 5, 9]), 1, 2)
        assert sorted(torch.cat(list(data.epoch()), dim=1).ravel().tolist()) == [1, 4, 5, 9]

    def test_the_generator_decides_and_torchs_own_is_left_alone(self, source_of):
        before = torch.get_rng_state()
        X = np.arange(20.0).reshape(20, 1)
        one, other = (self.batches(source_of(X), 20) for _ in range(2))
        assert torch.equal(torch.cat(one, dim=1), torch.cat(other, dim=1))
        assert torch.equal(torch.get_rng_state(), before)

    def test_processes_share_a_batch(self, source_of):
        X = np.arange(20.0).reshape(20, 1)
        shares = []
        for rank in (0, 1):
            data = self.data(source_of(X), np.arange(20), 2, 4, share=lambda batch: batch[rank::2])  # noqa: B023
            shares.append(torch.cat(list(data.epoch()), dim=1))
        for member in torch.cat(shares, dim=1):
            assert sorted(member.ravel().tolist()) == X.ravel().tolist()


class TestImagesOfAnySize:
    @pytest.mark.parametrize(
        "shape",
        [(1, 1), (3, 5, 1), (7, 7, 3), (8, 8, 5), (9, 13), (17, 17, 3), (28, 28, 1), (31, 33)],
    )
    def test_the_output_has_the_inputs_shape(self, Detector, make, shape):
        X = np.random.default_rng(0).normal(size=(5, *shape))
        detector = make(Detector, epochs=1, n_estimators=1, latent_dim=2, architecture=TINY).fit(X)
        assert detector.input_shape_ == shape
        assert detector.n_features_in_ == np.prod(shape)
        assert detector.transform(X).shape == (5, 2)
        assert detector.anomaly_map(X).shape == (5, *shape[:2])
        assert detector.reconstruct(X).shape == X.shape
        assert np.isfinite(detector.reconstruct(X)).all()
        assert np.isfinite(detector.anomaly_score(X)).all()

    @pytest.mark.parametrize("size", [(1, 1), (9, 13)])
    def test_channels_first_are_the_same_images(self, size):
        X = np.random.default_rng(0).normal(size=(20, *size, 3))
        last = small(architecture=TINY).fit(X)
        first = small(architecture=TINY, channel_axis=0).fit(np.moveaxis(X, -1, 1))
        assert first.input_shape_ == (3, *size)
        X_first = np.moveaxis(X, -1, 1)
        np.testing.assert_array_equal(first.anomaly_score(X_first), last.anomaly_score(X))
        np.testing.assert_array_equal(first.anomaly_map(X_first), last.anomaly_map(X))
        np.testing.assert_array_equal(
            first.reconstruct(X_first), np.moveaxis(last.reconstruct(X), -1, 1)
        )

    def test_one_channel_is_a_gray_image(self, images):
        gray = images[:20, ..., 0]
        without = small(architecture=TINY, channel_axis=None).fit(gray)
        with_axis = small(architecture=TINY).fit(gray[..., None])
        np.testing.assert_array_equal(
            without.anomaly_score(gray), with_axis.anomaly_score(gray[..., None])
        )

    @pytest.mark.parametrize(
        ("channel_axis", "shape"),
        [(-1, (9, 13, 3)), (0, (3, 9, 13)), (None, (9, 39)), (-1, (27, 13))],
    )
    def test_flat_rows_are_the_same_images(self, images, channel_axis, shape):
        X = images[:20].reshape(20, *shape)
        flat = X.reshape(20, -1)
        parameters = {"architecture": TINY, "channel_axis": channel_axis}
        detector = small(**parameters).fit(X)
        of_flat = small(**parameters, image_shape=shape).fit(flat)
        assert of_flat.input_shape_ == shape
        np.testing.assert_array_equal(of_flat.anomaly_score(flat), detector.anomaly_score(X))
        np.testing.assert_array_equal(of_flat.anomaly_map(flat), detector.anomaly_map(X))
        np.testing.assert_array_equal(of_flat.anomaly_score(X), detector.anomaly_score(X))
        assert of_flat.reconstruct(flat).shape == flat.shape
        np.testing.assert_array_equal(
            of_flat.reconstruct(flat).reshape(X.shape), detector.reconstruct(X)
        )

    def test_image_shape_as_a_list(self, images):
        detector = small(architecture=TINY, image_shape=[9, 13, 3])
        flat = images[:20].reshape(20, -1)
        assert detector.fit(flat).reconstruct(flat).shape == flat.shape

    @one_detector
    def test_8_bit_images(self, Detector, make):
        X = np.random.default_rng(0).integers(0, 256, size=(20, 8, 8, 3), dtype=np.uint8)
        detector = make(Detector, architecture=TINY).fit(X)
        assert np.isfinite(detector.anomaly_score(X)).all()
        x_hat = detector.reconstruct(X)
        assert x_hat.min() >= 0
        assert x_hat.max() <= 255
        assert x_hat.max() > 2  # in units of X, not of the networks


@pytest.fixture(scope="session")
def X(rows):
    """Rows that lose nothing as float32."""
    return rows[:60].astype(np.float32).astype(np.float64)


class TestContainers:
    """Of the same numbers come the same bits."""

    @pytest.mark.parametrize(
        "convert",
        [
            lambda X: X.tolist(),
            lambda X: X.astype(np.float32),
            lambda X: X.astype(object),
            np.asfortranarray,
            lambda X: np.repeat(X, 2, axis=0)[::2],
            lambda X: X.astype(">f8"),
            torch.from_numpy,
            lambda X: torch.from_numpy(X).requires_grad_(),
        ],
        ids=[
            "lists",
            "float32",
            "objects",
            "Fortran order",
            "strided",
            "big endian",
            "tensor",
            "tensor with gradient",
        ],
    )
    def test_arrays(self, X, convert):
        scores = small().fit(X).anomaly_score(X)
        other = small().fit(convert(X))
        np.testing.assert_array_equal(other.anomaly_score(X), scores)
        np.testing.assert_array_equal(other.anomaly_score(convert(X)), scores)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames(self, X, library):
        frame = pytest.importorskip(library).DataFrame(dict(zip("abcdef", X.T, strict=True)))
        detector = small().fit(frame)
        assert list(detector.feature_names_in_) == list("abcdef")
        np.testing.assert_array_equal(
            detector.anomaly_score(frame), small().fit(X).anomaly_score(X)
        )

    def test_names_of_columns_are_forgotten(self, rows, images):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(rows[:30], columns=list("abcdef"))
        detector = GANomalyDetector(epochs=1, n_estimators=1)
        assert hasattr(detector.fit(frame), "feature_names_in_")
        assert not hasattr(detector.fit(rows[:30]), "feature_names_in_")
        detector.fit(frame).set_params(architecture=TINY).fit(images[:10])
        assert not hasattr(detector, "feature_names_in_")

    @pytest.mark.parametrize(
        "dtype", ["bool", "int8", "uint8", "int64", "uint16", "float16", "float32", "float64"]
    )
    @pytest.mark.parametrize("shape", [(4,), (4, 5)])
    def test_numeric_dtypes(self, dtype, shape):
        X = np.random.default_rng(0).integers(0, 2, size=(20, *shape)).astype(dtype)
        architecture = TINY if len(shape) > 1 else None
        detector = small(architecture=architecture).fit(X)
        scores = detector.anomaly_score(X)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()

    def test_images_as_tensors_and_lists(self, images):
        X = images[:10]
        detector = small(architecture=TINY).fit(torch.from_numpy(X))
        scores = detector.anomaly_score(X)
        np.testing.assert_array_equal(detector.anomaly_score(X.tolist()), scores)


class TestSizes:
    """Few rows, odd columns: all work, and the scores are finite."""

    @pytest.mark.parametrize("n", [2, 3, 4, 7, 10])
    @one_detector
    def test_few_rows(self, Detector, make, rows, n):
        detector = make(Detector, epochs=1).fit(rows[:n])
        assert detector.n_iter_ == 1
        assert np.isfinite(detector.anomaly_score(rows)).all()

    @pytest.mark.parametrize("n", [2, 3, 5])
    @one_detector
    def test_few_images(self, Detector, make, images, n):
        detector = make(Detector, epochs=1, architecture=TINY).fit(images[:n])
        assert np.isfinite(detector.anomaly_score(images)).all()

    def test_every_detector_takes_few_samples(self, Detector, make, rows, images):
        of_rows = make(Detector, epochs=1).fit(rows[:2])
        assert np.isfinite(of_rows.anomaly_score(rows)).all()
        of_images = make(Detector, epochs=1, architecture=TINY).fit(images[:2])
        assert np.isfinite(of_images.anomaly_score(images)).all()

    @pytest.mark.parametrize("batch_size", [1, 3, 29, 30, 31, 10**9])
    def test_any_batch_size(self, rows, batch_size):
        detector = small(batch_size=batch_size).fit(rows[:30])
        assert np.isfinite(detector.anomaly_score(rows)).all()

    @pytest.mark.parametrize(
        "change",
        [lambda X: X[:, :1], np.ones_like, lambda X: X * [1e9, 1e-9, 1, 1, 1e-9, 1e9]],
        ids=["1 column", "all ones", "1e9 beside 1e-9"],
    )
    def test_every_detector_takes_odd_columns(self, Detector, make, rows, change):
        X = change(rows[:60])
        detector = make(Detector, epochs=1).fit(X)
        for method in ("anomaly_score", "transform", "reconstruct", "anomaly_map"):
            assert np.isfinite(getattr(detector, method)(X)).all(), method

    @pytest.mark.parametrize(
        "change",
        [
            lambda X: X[:, :1],
            lambda X: X * [1, 0, 1, 1, 0, 1] + 3,
            lambda X: np.ones_like(X),
            lambda X: np.zeros_like(X),
            lambda X: np.full_like(X, 1e9),
            lambda X: np.repeat(X[:5], 12, axis=0),
            lambda X: X * [1e9, 1e-9, 1, 1, 1e-9, 1e9],
            lambda X: X + np.array([1e9, 0, 0, 0, 0, 0]),
            lambda X: X * 1e150,
            lambda X: X * 1e-300,
            lambda X: np.hstack([X] * 50),
        ],
        ids=[
            "1 column",
            "constant columns",
            "all ones",
            "all zeros",
            "all 1e9",
            "duplicates",
            "1e9 beside 1e-9",
            "around 1e9",
            "1e150",
            "1e-300",
            "300 columns",
        ],
    )
    @pytest.mark.parametrize("scaling", ["auto", "robust"])
    @one_detector
    def test_odd_columns(self, Detector, make, rows, change, scaling):
        X = change(rows[:60])
        detector = make(Detector, epochs=1, scaling=scaling).fit(X)
        assert np.isfinite(detector.anomaly_score(X)).all()
        assert np.isfinite(detector.transform(X)).all()
        assert np.isfinite(detector.reconstruct(X)).all()
        assert np.isfinite(detector.anomaly_map(X)).all()
        assert set(detector.predict(X)) <= {-1, 1}

    @one_detector
    def test_small_columns_count_as_large_ones_do(self, Detector, make, rows):
        scaled = rows[:60] * [2.0**30, 2.0**-30, 1, 1, 1, 1]
        np.testing.assert_allclose(
            make(Detector).fit(scaled).anomaly_score(scaled),
            make(Detector).fit(rows[:60]).anomaly_score(rows[:60]),
            rtol=1e-3,
            atol=1e-3,
        )

    def test_identical_samples_are_all_normal(self, Detector, make):
        X = np.ones((20, 3))
        detector = make(Detector).fit(X)
        assert len(set(detector.anomaly_score(X))) == 1
        assert (detector.predict(X) == 1).all()

    def test_a_value_that_a_constant_column_never_had(self, Detector, make, rows):
        X = rows[:60] * [1, 1, 0, 1, 1, 1]
        detector = make(Detector, epochs=5).fit(X)
        wrong = X.copy()
        wrong[:, 2] = 50.0
        assert (detector.anomaly_score(wrong) > detector.anomaly_score(X)).mean() > 0.9

    def test_values_far_from_all_that_was_trained_on(self, Detector, make, rows):
        detector = make(Detector).fit(rows[:60])
        far = rows[:5] * 1e30
        assert np.isfinite(detector.anomaly_score(far)).all()
        assert np.isfinite(detector.reconstruct(far)).all()
        assert (detector.predict(far) == -1).all()


class TestRead:
    def test_it_learns_the_columns_only_when_told_to(self, rows):
        detector = GANomalyDetector()
        source = read(detector, rows)
        assert (len(source), source.layout.sample_shape) == (1100, (6,))
        assert detector.n_features_in_ == 6
        with pytest.raises(ValueError, match="expecting 6 features"):
            read(detector, rows[:, :3], source.layout)
        assert detector.n_features_in_ == 6

    def test_images_have_their_channels_first(self, images):
        source = read(GANomalyDetector(), images)
        assert source.layout.sample_shape == (3, 9, 13)
        np.testing.assert_array_equal(source.read(slice(0, 2)), np.moveaxis(images[:2], -1, 1))


OF_SEVERAL_SHAPES = [np.full((4 + i % 2, 6, 3), i, dtype=np.uint8) for i in range(7)]


class TestImagesOfSeveralShapes:
    def source(self, X=None, layout=None, kept=None):
        return read(RDNADetector(), OF_SEVERAL_SHAPES if X is None else X, layout, kept)

    def test_they_are_read_in_parts_of_one_shape(self):
        source = self.source()
        assert source.layout.input_shape == (5, 6, 3)
        assert source.layout.sample_shape == (3, 5, 6)
        parts = list(parts_of(source, None, 3))
        assert [part.tolist() for part in parts] == [[0, 2, 4], [6], [1, 3, 5]]
        x = source.read(parts[2])
        assert x.shape == (3, 3, 5, 6)
        assert x[:, 0, 0, 0].tolist() == [1, 3, 5]

    def test_results_come_back_in_order(self):
        source, rows = self.source(), np.array([5, 0, 1, 6])
        parts = list(parts_of(source, rows, 2))
        scores = [torch.from_numpy(source.read(part)[:, 0, 0, 0]) for part in parts]
        assert in_order(scores, source, rows).tolist() == rows.tolist()
        maps = [torch.from_numpy(source.read(part)[:, 0]) for part in parts]
        assert [m[0, 0] for m in in_order(maps, source, rows)] == rows.tolist()
        assert [len(m) for m in in_order(maps, source, rows)] == [5, 4, 5, 4]

    def test_some_are_left_out(self):
        source = self.source(kept=np.arange(7) > 2)
        assert len(source) == 4
        assert source.read(np.array([1, 3]))[:, 0, 0, 0].tolist() == [4, 6]

    def test_what_is_scored_may_have_any_shape(self):
        layout = self.source().layout
        assert len(self.source(OF_SEVERAL_SHAPES[:2] * 2, layout)) == 4
        assert len(self.source(np.zeros((3, 9, 9, 3)), layout)) == 3
        with pytest.raises(ValueError, match="was fitted with"):
            self.source(np.zeros((3, 9, 9)), layout)
        with pytest.raises(ValueError, match="was fitted with"):
            self.source(layout=self.source(np.zeros((3, 5, 6, 3))).layout)

    def test_an_array_of_objects_and_gaps_in_it(self):
        X = np.empty(7, dtype=object)
        X[:] = OF_SEVERAL_SHAPES
        assert len(self.source(X)) == 7
        X[3] = np.full((5, 6, 3), np.nan)
        with pytest.raises(ValueError, match="NaN"):
            self.source(X).read(np.array([3]))


@pytest.mark.parametrize("name", ["none.parquet", "none.png", "none"])
def test_a_path_where_nothing_is(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"there is no file or folder .*{name}$"):
        GANomalyDetector().fit(tmp_path / name)


def test_a_text_file_without_a_row_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.csv has no rows below the names of its columns"):
        GANomalyDetector().fit(path)
