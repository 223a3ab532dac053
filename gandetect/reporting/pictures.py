"""The pictures of a report: curves as SVG, and photographs with their maps as small JPEGs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandetect.data.images import open_image, pillow_image
from gandetect.plotting import (
    PrecisionRecallDisplay,
    RocDisplay,
    ScoreHistogramDisplay,
    TrainingCurveDisplay,
)
from gandetect.plotting.style import matplotlib_module

# The longer side of a photograph in a report, in pixels.
_SIDE = 256
_JPEG_QUALITY = 82
# The largest opacity of the heat map over the photograph.
_OPACITY = 0.6
_OUTLINE = (255, 255, 255)
# Colours for five evenly spaced values of a map, from the smallest to the largest.
_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
# More points of a curve are not visible, and would enlarge the file.
_MOST_SCORES = 20_000
# In SVG, a hatch with the colour of its area would be invisible.
_SVG_SETTINGS = {"svg.fonttype": "none", "hatch.color": "black"}


def history_svg(history: Sequence[Mapping[str, Any]]) -> str:
    """Draw the losses over the epochs."""
    return _svg("history", lambda ax: TrainingCurveDisplay.from_predictions(history, ax=ax))


def histogram_svg(
    scores: NDArray[np.float64], threshold: float, is_anomaly: NDArray[np.bool_] | None
) -> str:
    """Draw the histogram of the scores, by kind if there are labels, with the threshold."""
    return _svg(
        "scores",
        lambda ax: ScoreHistogramDisplay.from_predictions(
            is_anomaly, scores, threshold=threshold, ax=ax
        ),
    )


def curves_svg(
    scores: NDArray[np.float64], threshold: float, is_anomaly: NDArray[np.bool_], name: str
) -> dict[str, str]:
    """Draw the ROC and the precision-recall curve, with a limited number of scores per kind."""
    kept = np.concatenate(
        [_thinned(np.flatnonzero(is_anomaly == kind), scores) for kind in (False, True)]
    )
    displays = {"roc": RocDisplay, "precision-recall": PrecisionRecallDisplay}
    return {
        kind: _svg(
            kind,
            lambda ax, display=display: display.from_predictions(
                is_anomaly[kept], scores[kept], threshold=threshold, name=name, ax=ax
            ),
        )
        for kind, display in displays.items()
    }


def _thinned(rows: NDArray[np.intp], scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Select a limited number of rows, evenly spaced in the order of their scores."""
    if len(rows) <= _MOST_SCORES:
        return rows
    ordered = rows[np.argsort(scores[rows], kind="stable")]
    return ordered[np.linspace(0, len(ordered) - 1, _MOST_SCORES).round().astype(np.intp)]


def _svg(name: str, draw: Any) -> str:
    """Draw a new figure, and return it as an SVG element without external resources."""
    matplotlib = matplotlib_module("figure")
    rc_context = matplotlib_module("pyplot").rc_context
    content = io.StringIO()
    # matplotlib derives the ids in an SVG from the salt. A fixed salt for each figure makes the
    # ids reproducible, and different between the figures of a page.
    with rc_context({**_SVG_SETTINGS, "svg.hashsalt": name}):
        figure = matplotlib.Figure(figsize=(6.4, 4.2), layout="constrained")
        draw(figure.subplots())
        figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    # Remove the metadata, which contain web addresses, and the ids of groups, which would occur
    # once in each figure of a page.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r'(<g|<path|<use) id="(?!m?[0-9a-f]{8,})[^"]*"', r"\1", text)


class Photographs:
    """Creates pictures of images and of their maps; all maps share one colour scale.

    Parameters
    ----------
    images : sequence of array or None
        The scored images, (height, width[, channels]) each, or the paths of image files.
    maps : sequence of ndarray of shape (height, width)
        The anomaly maps of the images; larger is more anomalous.
    level : float
        Areas of a map above it are outlined.
    side : int or None, default=256
        The longer side of the pictures. None keeps that of the photographs.
    """

    def __init__(
        self,
        images: Sequence[Any],
        maps: Sequence[NDArray[Any]],
        level: float,
        side: int | None = _SIDE,
    ) -> None:
        self.maps, self.level, self.side = maps, level, side
        self.low = min(float(np.min(of_one)) for of_one in maps)
        self.high = max(max(float(np.max(of_one)) for of_one in maps), level)
        self.images = images
        arrays = [image for image in images if isinstance(image, np.ndarray)]
        values = [(float(image.min()), float(image.max())) for image in arrays]
        self.range = (min(v[0] for v in values), max(v[1] for v in values)) if values else (0, 1)

    def pair(self, i: int) -> tuple[str, str]:
        """Return the photograph and its heat map as data URLs."""
        photograph = self._photograph(self.images[i])
        return _address(photograph), _address(self._overlay(photograph, i))

    def overlay(self, i: int) -> NDArray[np.uint8]:
        """Return the heat map over the photograph, (height, width, 3)."""
        overlay = self._overlay(self._photograph(self.images[i]), i)
        return np.round(overlay).clip(0, 255).astype(np.uint8)

    def _overlay(self, photograph: NDArray[np.float64], i: int) -> NDArray[np.float64]:
        height, width = photograph.shape[:2]
        resized = (
            pillow_image()
            .fromarray(np.asarray(self.maps[i], dtype=np.float32))
            .resize((width, height), resample=pillow_image().Resampling.BILINEAR)
        )
        heat = np.asarray(resized)
        share = np.clip((heat - self.low) / ((self.high - self.low) or 1.0), 0, 1)
        places = np.linspace(0, 1, len(_COLOURS))
        channels = [np.interp(share, places, channel) for channel in zip(*_COLOURS, strict=True)]
        opacity = _OPACITY * np.sqrt(share)[..., None]
        overlay = photograph * (1 - opacity) + np.stack(channels, axis=-1) * opacity
        overlay[_outline(heat > self.level)] = _OUTLINE
        return overlay

    def _photograph(self, image: Any) -> NDArray[np.float64]:
        """Return the image with 8 bits and three channels, in the size of the pictures."""
        if not isinstance(image, np.ndarray):
            picture = open_image(image)
            if picture.mode not in ("1", "L", "RGB", "RGBA", "P", "CMYK", "YCbCr"):
                values = np.asarray(picture, dtype=np.float64)  # of more than 8 bits
                picture = pillow_image().fromarray(_to_bytes(values, values.min(), values.max()))
            picture = picture.convert("RGB")
        else:
            values = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
            if values.ndim == 3 and values.shape[-1] != 3:
                values = values.mean(axis=-1)
            low, high = (0, 255) if values.dtype == np.uint8 else self.range
            picture = pillow_image().fromarray(_to_bytes(values, low, high)).convert("RGB")
        if self.side is None:
            return np.asarray(picture, dtype=np.float64)
        scale = self.side / max(picture.size)
        size = [max(1, round(side * scale)) for side in picture.size]
        kind = "NEAREST" if scale > 2 else "BILINEAR"  # enlarged small images keep sharp pixels
        shown = picture.resize(size, resample=pillow_image().Resampling[kind])
        return np.asarray(shown, dtype=np.float64)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the border of a mask, two pixels wide."""
    from scipy import ndimage

    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, iterations=1)
    kept: NDArray[np.bool_] = ndimage.binary_erosion(mask, iterations=1, border_value=1)
    return grown & ~kept


def _to_bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _address(picture: NDArray[np.float64]) -> str:
    content = io.BytesIO()
    image = pillow_image().fromarray(np.round(picture).clip(0, 255).astype(np.uint8))
    image.save(content, format="JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
