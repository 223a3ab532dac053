"""The training folder: reconstructions of a few images, the losses, and the models.

Its layout is that of the original scripts of these methods, so that programs that read their
folders can also read this one.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

from gandetect.archive import check_path, check_writable, check_writable_folder, written_aside
from gandetect.data.images import pillow_image
from gandetect.data.sources import read
from gandetect.distributed import is_first
from gandetect.training.callbacks import Callback
from gandetect.training.loop import TrainingRun, current_run
from gandetect.training.protocol import CallbackContext

IMAGES, STATS, MODELS = "reconstruction", "stats", "models"
_HISTORY, _FINAL = (STATS, "history.csv"), (MODELS, "final.safetensors")
_EPOCH_FILE = re.compile(r"epoch_(\d+)\.(?:png|safetensors)")

# The layout of a grid of images: images in a row, pixels between them, and the height to which
# small images are enlarged.
_IMAGES_A_LINE = 8
_GAP = 2
_SEEN_HEIGHT = 64


class RunFolder(Callback):
    """Write a training to a folder: images every few epochs, the losses, and the models.

    ::

        path/
          reconstruction/true/epoch_0010.png        a few images of X
          reconstruction/fake/epoch_0010.png        samples of the generator, or reconstructions
          reconstruction/comparison/epoch_0010.png  rows of images above their reconstructions
          reconstruction/test/epoch_0010.png        the same for `X_test`
          reconstruction/masks/epoch_0010.png       simulated anomalies of RDNA, see below
          stats/history.csv                         the losses of all epochs so far
          stats/epoch_0010.png                      their curves, with `draw_losses`
          models/epoch_0010.safetensors             read with `gandetect.load`
          models/final.safetensors                  the fitted detector

    `gandetect.plotting.animate` makes an animation of the images. For rows no images are written.

    Parameters
    ----------
    path : str or path
        The folder; it is created if it is missing, and `fit` raises an OSError before training if
        it is not writable. When the training reaches an epoch, files that an earlier training wrote
        for that epoch or later ones are removed; other files are kept.
    X_test : array-like, Dataset or path, default=None
        Images to reconstruct in addition to training images, such as anomalies.
    every_n_epochs : int, default=10
        How often images and models are written. The losses are written after each epoch.
    n_images : int, default=16
        How many images are shown: the first ones of X and of `X_test`.
    draw_losses : callable or None, default=None
        ``draw_losses(history, path)`` writes a picture of the losses so far, as
        `gandetect.plotting.draw_losses` does with matplotlib; None writes none.

    Notes
    -----
    If the detector has a method ``sample``, "fake" contains samples of the generator, from the same
    codes in each epoch; for other detectors it contains reconstructions.

    "masks" contains the shown images with simulated anomalies, the same in each epoch, above the
    masks of these anomalies, the reconstructions, and the probabilities of the discriminant.

    The grey scale is fixed: the smallest value of the shown images is black, the largest white.
    Images with two, or more than three, channels are shown as the mean of the channels.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> from gandetect import GANomalyDetector, RunFolder
    >>> X = load_digits().images[:40]
    >>> with TemporaryDirectory() as folder:
    ...     detector = GANomalyDetector(epochs=2, random_state=0)
    ...     _ = detector.set_callbacks(RunFolder(folder, every_n_epochs=1)).fit(X)
    ...     sorted(path.name for path in Path(folder, "models").iterdir())
    ['epoch_0001.safetensors', 'epoch_0002.safetensors', 'final.safetensors']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        X_test: Any = None,
        every_n_epochs: int = 10,
        n_images: int = 16,
        draw_losses: Callable[[Sequence[Mapping[str, float]], Path], None] | None = None,
    ) -> None:
        check_path(path, "folder")
        check_scalar(every_n_epochs, "every_n_epochs", Integral, min_val=1)
        check_scalar(n_images, "n_images", Integral, min_val=1)
        self.path = path
        self.X_test = X_test
        self.every_n_epochs = every_n_epochs
        self.n_images = n_images
        self.draw_losses = draw_losses

    def setup(self, estimator: Any, context: CallbackContext) -> None:
        """Check before training that the folder can be written.

        Raises
        ------
        OSError
            If writing a temporary file into the folder fails.
        """
        if not is_first():
            return
        for folder in (IMAGES, STATS, MODELS):
            check_writable_folder(Path(self.path, folder))
        for file in (Path(self.path, *_HISTORY), Path(self.path, *_FINAL)):
            if os.path.lexists(file):
                check_writable(file)

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext, *, X: Any = None) -> None:
        """Before training, create the folders; before an epoch, remove files of an older run."""
        if not is_first():  # all processes have the same state; the first one writes it
            return
        if context.task_name != "fit":
            # At the first epoch a checkpoint has been resumed, so that the epoch is known.
            self._remove_after(len(current_run().history))
            return
        for folder in (STATS, MODELS):
            Path(self.path, folder).mkdir(parents=True, exist_ok=True)
        self._followed: dict[str, np.ndarray] = {}
        run = current_run()
        # With a backbone features are reconstructed, which cannot be drawn as images.
        if run.model.layout.is_image and not run.model.gives_maps:
            pillow_image()  # raises before training if pillow is missing
            self._followed["comparison"] = self._first_images(run, X)
            if self.X_test is not None:
                self._followed["test"] = self._first_images(run, self.X_test)

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool | None:
        """Write the losses after each epoch, images and the model every `every_n_epochs`."""
        if not is_first():
            return None
        history = current_run().history
        if context.task_name == "fit":
            estimator.fitted_so_far().save(Path(self.path, *_FINAL))
            return None
        _write_table(Path(self.path, *_HISTORY), history)
        if len(history) % self.every_n_epochs == 0:
            detector = estimator.fitted_so_far()
            name = f"epoch_{len(history):04d}"
            detector.save(Path(self.path, MODELS, f"{name}.safetensors"))
            if self.draw_losses is not None:
                self.draw_losses(history, Path(self.path, STATS, f"{name}.png"))
            for folder, grid in self._grids(detector):
                path = Path(self.path, IMAGES, folder, f"{name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                with written_aside(path) as file:
                    pillow_image().fromarray(grid).save(file, format="PNG")
        return None

    def _first_images(self, run: TrainingRun, X: Any) -> np.ndarray:
        model = run.model
        source = read(model.settings, X, model.layout)
        return source.read(slice(0, min(self.n_images, len(source))))

    def _grids(self, detector: Any) -> Iterator[tuple[str, np.ndarray]]:
        """Yield pictures with their folders; all use the grey scale of the training images."""
        model = detector.model_
        layout = model.layout
        for folder, x in self._followed.items():
            x_hat = layout.channels_first(detector.reconstruct(layout.restored(x)))
            if folder == "comparison":
                low, high = _range_of(x)
                yield "true", _grid([_to_8_bit(x, low, high)])
                fake = x_hat
                if hasattr(detector, "sample"):
                    fake = layout.channels_first(detector.sample(len(x), random_state=0))
                yield "fake", _grid([_to_8_bit(fake, low, high)])
                if model.shown_as is not None:
                    source = read(model.settings, layout.restored(x), layout)
                    shown = model.in_blocks(model.shown, source)
                    lines = np.moveaxis(shown, 1, 0)
                    yield model.shown_as, _grid([_to_8_bit(line, 0, 1) for line in lines])
            yield folder, _grid([_to_8_bit(images, low, high) for images in (x, x_hat)])

    def _remove_after(self, n_epochs: int) -> None:
        folders = [
            *Path(self.path, IMAGES).glob("*"),
            *(Path(self.path, f) for f in (STATS, MODELS)),
        ]
        for file in [file for folder in folders for file in folder.glob("*")]:
            match = _EPOCH_FILE.fullmatch(file.name)
            if match and int(match[1]) > n_epochs:
                file.unlink()


def epoch_images(path: str | os.PathLike[str], folder: str) -> dict[int, Path]:
    """Return the paths of the images in a folder of a run, by epoch.

    Parameters
    ----------
    path : str or path
        The folder of the run.
    folder : str
        The folder in ``reconstruction``, such as "comparison".

    Returns
    -------
    dict of int to pathlib.Path

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    """
    images = Path(path, IMAGES)
    if not images.is_dir():
        raise FileNotFoundError(
            f"{str(path)!r} has no folder {IMAGES!r}: pass the folder of a run on images, which "
            "the callback RunFolder writes."
        )
    # Only regular files; opening a named pipe would wait for its other end.
    files = sorted(f for f in Path(images, folder).glob("epoch_*.png") if f.is_file())
    by_epoch = {int(match[1]): f for f in files if (match := _EPOCH_FILE.fullmatch(f.name))}
    if not by_epoch:
        there = ", ".join(sorted(other.name for other in images.iterdir())) or "nothing"
        raise FileNotFoundError(f"{str(images)!r} has no images in {folder!r}; available: {there}.")
    return dict(sorted(by_epoch.items()))


def _write_table(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the records as CSV; later records may have more losses than the first."""
    names = list(dict.fromkeys(name for record in history for name in record))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names)
    table.writeheader()
    table.writerows(history)
    with written_aside(path) as file:
        file.write(text.getvalue().encode())


def _range_of(x: np.ndarray) -> tuple[float, float]:
    return (0.0, 255.0) if x.dtype == np.uint8 else (float(x.min()), float(x.max()))


def _to_8_bit(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Convert images (n, C, H, W) to pixels (n, H, W, 3)."""
    scaled = np.clip((x.astype(float) - low) / ((high - low) or 1.0), 0, 1)
    if scaled.shape[1] != 3:
        scaled = np.repeat(scaled.mean(axis=1, keepdims=True), 3, axis=1)
    return np.moveaxis(np.rint(255 * scaled).astype(np.uint8), 1, -1)


def _grid(kinds: Sequence[np.ndarray]) -> np.ndarray:
    """Arrange images (n, H, W, 3) in rows; images of several kinds are above each other."""
    n_images, height, width, _ = kinds[0].shape
    scale = math.ceil(_SEEN_HEIGHT / height)
    height, width = height * scale, width * scale
    n_columns = min(_IMAGES_A_LINE, n_images)
    n_lines = math.ceil(n_images / n_columns) * len(kinds)
    grid = np.full(
        (n_lines * (height + _GAP) + _GAP, n_columns * (width + _GAP) + _GAP, 3), 255, np.uint8
    )
    for k, images in enumerate(kinds):
        for i, image in enumerate(images):
            line, column = divmod(i, n_columns)
            top = (line * len(kinds) + k) * (height + _GAP) + _GAP
            left = column * (width + _GAP) + _GAP
            magnified = image.repeat(scale, axis=0).repeat(scale, axis=1)
            grid[top : top + height, left : left + width] = magnified
    return grid
