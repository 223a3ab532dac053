import os

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


@pytest.fixture
def curves(tmp_path):
    """Loss curves after the epochs 9, 10 and 100, which brighten, beside other files."""
    for number, name in ((100, "loss of run 2, 100"), (9, "loss9"), (10, "loss_010_")):
        Image.fromarray(np.full((20, 40), 2 * number, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "history1.csv").write_text("epoch")
    (tmp_path / "._loss11.png").write_text("not an image")
    Image.new("L", (40, 20)).save(tmp_path / "logo.png")
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are of POSIX")
def test_pipes_and_folders_that_are_called_like_pictures_are_passed_over(run, curves):
    for epoch, name in ((5, "reconstruction/comparison/epoch_{:04d}.png"), (300, "loss{}.png")):
        (run / name.format(epoch)).mkdir()
        os.mkfifo(run / name.format(epoch + 1))
    with Image.open(animate(run, run / "film.gif", dpi=20)) as film:
        assert film.n_frames == 3
    (run / "reconstruction").rename(run / "kept")
    with Image.open(animate(curves, run / "film.gif", dpi=20)) as film:
        assert film.n_frames == 3


def test_any_numbered_pictures_are_a_film_in_the_order_of_their_numbers(curves, tmp_path_factory):
    out = tmp_path_factory.mktemp("films") / "film.gif"
    middles = [int(frame[-20, 50]) for frame in frames(animate(curves, out, dpi=20))]
    assert middles == pytest.approx([18, 20, 200], abs=4)


def test_subfolders_of_numbered_pictures_are_panels(curves):
    for folder in ("a", "b"):
        (curves / folder).mkdir()
        for number in (1, 2, 3)[: 3 if folder == "a" else 2]:
            Image.new("L", (40, 20)).save(curves / folder / f"{number}.jpg")
    with Image.open(animate(curves, curves / "film.gif", dpi=20, panels=["a", "b"])) as film:
        assert film.n_frames <= 2  # equal frames are one
        assert film.size[0] == 200


def test_pictures_that_are_no_film(curves):
    Image.new("L", (41, 20)).save(curves / "loss_200.png")
    (curves / "film.gif").write_bytes(b"an older film")
    with pytest.raises(ValueError, match=r"loss_200\.png' has 41x20 pixels, the first .* 40x20"):
        animate(curves, curves / "film.gif")
    Image.new("L", (40, 20)).save(curves / "other 9.png")
    with pytest.raises(
        ValueError, match=r"'loss9\.png' and 'other 9\.png' .* have the same number"
    ):
        animate(curves, curves / "film.gif")
    assert (curves / "film.gif").read_bytes() == b"an older film"
    assert not list(curves.glob("*.part.*"))


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_a_picture_too_thin_to_be_seen_is_named(tmp_path, size):
    for number in (1, 2):
        Image.new("L", size).save(tmp_path / f"strip{number}.png")
    pixels = rf"strip1\.png' has {size[0]}x{size[1]} pixels, .* a larger dpi \(up to 600\)"
    for dpi in (10, 600):
        with pytest.raises(ValueError, match=pixels):
            animate(tmp_path, tmp_path / "film.gif", dpi=dpi)


def test_a_tall_picture_leaves_room_for_its_title(tmp_path):
    for number in (1, 2):
        Image.new("L", (1, 100), 90).save(tmp_path / f"strip{number}.png")
    with Image.open(animate(tmp_path, tmp_path / "film.gif", dpi=40)) as film:
        assert film.size[0] == 60  # an inch and a half
        frame = np.asarray(film.convert("L"))
    assert (frame[-100:] < 100).any()  # 90, but for the palette of the GIF


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
        ("film.gif", {"panels": "true"}, FileNotFoundError, "available: comparison, fake"),
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
