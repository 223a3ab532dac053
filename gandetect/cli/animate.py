"""``gandetect animate``: an animation of a training from its run folder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gandetect.cli.options import names, number


def add_animate(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "animate",
        help="make an animation of a training",
        description=(
            "Make an animation of the images in the run folder of a training "
            "(gandetect fit --run-folder), or of any folder of numbered images, "
            "such as its stats/."
        ),
    )
    parser.add_argument("run_folder", metavar="DIR", help="run folder of the training, or images")
    parser.add_argument(
        "--out",
        default="animation.gif",
        metavar="FILE",
        help="a .gif, or an .mp4 if ffmpeg is installed (default: animation.gif)",
    )
    parser.add_argument(
        "--panels",
        type=names,
        metavar="A,B",
        help="folders of reconstruction/ to show side by side, as in comparison,fake,true",
    )
    parser.add_argument(
        "--fps",
        type=partial(_within, float, "FPS_LIMITS"),
        default=2.0,
        metavar="N",
        help="images per second (default: 2)",
    )
    parser.add_argument(
        "--dpi",
        type=partial(_within, int, "DPI_LIMITS"),
        default=100,
        metavar="N",
        help="dots per inch of the animation (default: 100)",
    )
    parser.set_defaults(run=run_animate)


def run_animate(options: Namespace) -> None:
    """Draw the animation."""
    from gandetect.cli.output import check_animation
    from gandetect.plotting import animate

    check_animation(options)
    out = Path(options.out).expanduser()
    more = {} if options.panels is None else {"panels": options.panels}
    animate(Path(options.run_folder), out, fps=options.fps, dpi=options.dpi, **more)
    print(out)


def _within(convert: Callable[[str], Any], limits: str, text: str) -> Any:
    """Read a number between limits of the animation, which are imported if the option is given."""
    from gandetect.plotting import animation

    return number(convert, *getattr(animation, limits))(text)
