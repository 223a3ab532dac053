import matplotlib
import numpy as np
import pytest
from PIL import Image

from gandetect.data.images import DataFileError
from gandetect.plotting import animate


@pytest.fixture
def run(tmp_path):
    """A run of three epochs whose images brighten; of "fake" one epoch is missing."""
    for folder, epochs in (("comparison", [2, 4, 10]), ("fake", [4, 10])):
        path = tmp_path / "reconstruction" / folder
        path.mkdir(parents=True)
        for epoch in epochs:
            pixels = np.full((20, 40, 3), 20 * epoch, np.uint8)
            Image.fromarray(pixels).save(path / f"epoch_{epoch:04d}.png")
    return tmp_path


def frames(path):
    with Image.open(path) as film:
        for i in range(film.n_frames):
            film.seek(i)
            yield np.asarray(film.convert("L"))


def test_a_frame_an_epoch(run):
    out = animate(run, run / "film.gif", fps=4, dpi=20)
    assert out == run / "film.gif"
    with Image.open(out) as film:
        assert film.info["duration"] == 250
        assert film.size[0] == 100  # five inches
    middles = [int(frame[len(frame) // 2, 50]) for frame in frames(out)]
    assert middles == pytest.approx([40, 80, 200], abs=4)


def test_several_panels_show_the_epochs_that_all_have(run):
    out = animate(run, run / "film.gif", dpi=20, panels=["comparison", "fake"])
    with Image.open(out) as film:
        assert film.n_frames == 2
        assert film.size[0] == 200


def test_films_of_videos_need_ffmpeg(run, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "animation.ffmpeg_path", "no-such-program")
    with pytest.raises(FileNotFoundError, match="ffmpeg, which is not on the PATH"):
        animate(run, run / "film.mp4")


def test_a_video_where_ffmpeg_is(run):
    if not matplotlib.animation.FFMpegWriter.isAvailable():
        pytest.skip("ffmpeg is not installed")
    assert b"ftyp" in animate(run, run / "film.mp4", dpi=31).read_bytes()[:12]


@pytest.mark.parametrize(
    ("out", "options", "error", "message"),
    [
        ("film.avi", {}, ValueError, "ends in .gif or .mp4"),
        ("nowhere/film.gif", {}, FileNotFoundError, "no such folder"),
        ("film.gif", {"panels": []}, ValueError, "at least one"),
        ("film.gif", {"panels": "true"}, FileNotFoundError, "it has comparison, fake"),
        ("film.gif", {"fps": 0}, ValueError, "fps"),
        ("film.gif", {"fps": 101}, ValueError, "fps"),
        ("film.gif", {"dpi": 3}, ValueError, "dpi == 3, must be >= 10"),
        ("film.gif", {"dpi": 100_000}, ValueError, "dpi == 100000, must be <= 600"),
        ("film.gif", {"dpi": "high"}, TypeError, "dpi"),
    ],
)
def test_what_can_not_be_made(run, out, options, error, message):
    with pytest.raises(error, match=message):
        animate(run, run / out, **options)


@pytest.mark.parametrize(
    "error", [IndexError("no frame"), BrokenPipeError("no frame"), RuntimeError("no frame")]
)
def test_what_a_writer_can_not_do(run, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(matplotlib.animation.PillowWriter, "grab_frame", fail)
    with pytest.raises(ValueError, match=r"film\.gif' cannot be written: no frame"):
        animate(run, run / "film.gif")


@pytest.mark.parametrize("dpi", [10, 11])
def test_the_smallest_film(run, dpi):
    assert len(list(frames(animate(run, run / "film.gif", dpi=dpi)))) == 3


def test_folders_that_are_no_run(run, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="RunFolder writes"):
        animate(tmp_path_factory.mktemp("empty"), run / "film.gif")
    (run / "reconstruction" / "fake" / "epoch_0004.png").unlink()
    (run / "reconstruction" / "fake" / "epoch_0010.png").rename(
        run / "reconstruction" / "fake" / "epoch_0011.png"
    )
    with pytest.raises(FileNotFoundError, match="No epoch has an image in each"):
        animate(run, run / "film.gif", panels=["comparison", "fake"])


def test_a_damaged_image(run):
    (run / "reconstruction" / "comparison" / "epoch_0004.png").write_bytes(b"no image")
    with pytest.raises(DataFileError, match=r"epoch_0004\.png"):
        animate(run, run / "film.gif")
