"""An animation of a training, or of any pictures with a number in their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

from sklearn.utils import check_scalar

from gandetect.data.images import IMAGE_SUFFIXES, read_image
from gandetect.plotting.style import matplotlib_module
from gandetect.training.run_folder import IMAGES, epoch_images

# The longer side of a panel, in inches.
_PANEL_SIZE = 5.0
# Inches for the title and the epoch above it.
_TITLE_HEIGHT = 0.7
# The smallest width of a figure, in inches, so that the title of a tall picture fits.
_LEAST_WIDTH = 1.5
# With a lower dpi a picture is too small to see; with a higher one the frames need too much memory.
# A lower fps shows a frame for minutes; a higher one is below the time unit of .gif files, a
# hundredth of a second.
DPI_LIMITS = (10, 600)
FPS_LIMITS = (0.01, 100)


def animate(
    run_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    fps: float = 2,
    dpi: float = 100,
    panels: str | Sequence[str] | None = None,
) -> Path:
    """Make an animation of the images that a training wrote, or of any numbered pictures.

    Parameters
    ----------
    run_folder : str or path
        A folder written by the callback `gandetect.RunFolder`, with one frame for each epoch; or a
        folder of pictures with a number in their names, such as loss curves saved after each
        epoch, with one frame for each picture, in the order of the last number in the names.
    out : str or path
        The file of the animation: ``.gif``, or ``.mp4`` if the program ffmpeg is installed.
    fps : float, default=2
        Frames per second, 0.01 to 100.
    dpi : float, default=100
        Dots per inch, 10 to 600; the longer side of a panel is five inches.
    panels : str, sequence of str or None, default=None
        The folders of images to show side by side: for a run "comparison", "fake", "true" or
        "test", otherwise subfolders. Epochs that are not in all of them are left out. None takes
        "comparison" for a run, and otherwise the pictures in the folder itself.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    FileNotFoundError
        If there is no such run or panel, no epoch that all panels have, no folder for `out`, or
        no ffmpeg for an ``.mp4``.
    ValueError
        If `out` has another ending, `panels` is empty, two pictures have the same number, the
        pictures of a panel differ in size or are so long and thin that a side is below one dot at
        `dpi`, `fps` or `dpi` is out of range, or the file cannot be written.
    DataFileError
        If an image is damaged.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> from gandetect import GANomalyDetector, RunFolder
    >>> from gandetect.plotting import animate
    >>> X = load_digits().images[:40]
    >>> with TemporaryDirectory() as folder:
    ...     run = RunFolder(folder, every_n_epochs=1)
    ...     _ = GANomalyDetector(epochs=2, random_state=0).set_callbacks(run).fit(X)
    ...     made = animate(folder, Path(folder, "made.gif"), dpi=20)
    ...     made.read_bytes()[:6]
    b'GIF89a'
    """
    for name, value, (least, most) in (("fps", fps, FPS_LIMITS), ("dpi", dpi, DPI_LIMITS)):
        check_scalar(value, name, Real, min_val=least, max_val=most)
    is_run = Path(run_folder, IMAGES).is_dir()
    if panels is None:
        panels = "comparison" if is_run else ""
    names = [panels] if isinstance(panels, str) else list(panels)
    if not names:
        raise ValueError("panels is empty: at least one folder of images is required.")
    out = Path(out)
    writer = _writer_for(out, fps)
    pictures_of = epoch_images if is_run else _numbered_pictures
    images = [pictures_of(run_folder, name) for name in names]
    epochs = [epoch for epoch in images[0] if all(epoch in panel for panel in images)]
    if not epochs:
        raise FileNotFoundError(f"No epoch has an image in each of {', '.join(names)}.")
    files = [panel[epochs[0]] for panel in images]
    first = [read_image(file, None, 3) for file in files]
    _check_seen(files, first, dpi)
    figure, shown = _panels(names, first)
    with _written_whole(out) as part, _told_by_the_file(out), writer.saving(figure, part, dpi):
        for epoch in epochs:
            figure.suptitle(f"epoch {epoch}" if is_run else f"{epoch}")
            for picture, panel, begun in zip(shown, images, first, strict=True):
                image = read_image(panel[epoch], None, 3)
                if image.shape != begun.shape:
                    raise ValueError(
                        f"{str(panel[epoch])!r} has {image.shape[1]}x{image.shape[0]} pixels, the "
                        f"first picture has {begun.shape[1]}x{begun.shape[0]}: all images of a "
                        "panel must have the same size."
                    )
                picture.set_data(image)
            writer.grab_frame()
    return out


def _numbered_pictures(folder: str | os.PathLike[str], name: str) -> dict[int, Path]:
    """Return the pictures of `folder` / `name`, by the last number in their names."""
    folder = Path(folder, name)
    numbered: dict[int, Path] = {}
    for path in sorted(folder.glob("[!.]*")):
        number = re.search(r"(\d+)\D*$", path.stem)
        if number is None or path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        other = numbered.setdefault(int(number[1]), path)
        if other is not path:
            raise ValueError(
                f"{other.name!r} and {path.name!r} in {str(folder)!r} have the same number: the "
                "images of an animation must have different numbers."
            )
    if not numbered:
        raise FileNotFoundError(
            f"{str(folder)!r} has no images with a number in their names: pass a folder that the "
            "callback RunFolder writes, or a folder of numbered images."
        )
    return dict(sorted(numbered.items()))


def _writer_for(out: Path, fps: float) -> Any:
    """Return matplotlib's writer for the file ending of `out`, or raise an error."""
    animation = matplotlib_module("animation")
    writers = {".gif": animation.PillowWriter, ".mp4": animation.FFMpegWriter}
    if out.suffix.lower() not in writers:
        raise ValueError(f"An animation ends in .gif or .mp4, got {str(out)!r}.")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"{str(out)!r} cannot be written: there is no such folder.")
    writer = writers[out.suffix.lower()]
    if not writer.isAvailable():
        raise FileNotFoundError(
            f"{str(out)!r} needs the program ffmpeg, which is not on the PATH: install it, or "
            "write a .gif."
        )
    return writer(fps=fps)


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; the complete file then replaces `out` (atomic write)."""
    out = out.resolve()
    part = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        yield part
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _told_by_the_file(out: Path) -> Iterator[None]:
    """Convert unexpected errors of a writer, or of its program, to a ValueError."""
    try:
        yield
    except Exception as error:
        is_told = isinstance(error, (ValueError, OSError, ImportError))
        # If ffmpeg ends early, writing to it raises BrokenPipeError, which does not name the cause.
        if is_told and not isinstance(error, BrokenPipeError):
            raise
        # An error while the writer closes its file hides the first error, which is its context.
        cause = error.__context__ or error
        raise ValueError(
            f"The animation {str(out)!r} cannot be written: {str(cause) or type(cause).__name__}."
        ) from error


def _check_seen(files: Sequence[Path], images: Sequence[Any], dpi: float) -> None:
    """Refuse a picture with a side below one dot when the largest picture fills its panel."""
    longest = max(side for image in images for side in image.shape[:2])
    for file, image in zip(files, images, strict=True):
        height, width = image.shape[:2]
        if min(height, width) * _PANEL_SIZE * dpi < longest:
            raise ValueError(
                f"{str(file)!r} has {width}x{height} pixels, and a side would be smaller than one "
                f"dot of the animation at dpi={dpi:g}: pass a larger dpi (up to {DPI_LIMITS[1]}), "
                "or leave out such images."
            )


def _panels(names: Sequence[str], images: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Make a figure with one panel for each image; without pyplot, so it needs no display."""
    heights, widths = zip(*(image.shape[:2] for image in images), strict=True)
    inch = _PANEL_SIZE / max(*heights, *widths)
    figure = matplotlib_module("figure").Figure(
        figsize=(max(_LEAST_WIDTH, inch * sum(widths)), inch * max(heights) + _TITLE_HEIGHT),
        layout="constrained",
    )
    axes = figure.subplots(1, len(names), squeeze=False, width_ratios=widths)[0]
    shown = []
    for ax, name, image in zip(axes, names, images, strict=True):
        ax.set_axis_off()
        ax.set_title(name)
        shown.append(ax.imshow(image, interpolation="nearest"))
    return figure, shown
