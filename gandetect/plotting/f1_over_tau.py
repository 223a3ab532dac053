"""The F1 score of the inliers over the threshold, and the F1 score of a constant prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gandetect.metrics import F1Curve, f1_over_tau
from gandetect.plotting.score_display import ScoreDisplay
from gandetect.plotting.style import (
    BLACK,
    MARKERS,
    OKABE_ITO,
    SCORE_LABEL,
    legend_right,
    percent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False, kw_only=True)
class F1OverTauDisplay(ScoreDisplay):
    """F1 of the inliers over the threshold τ, with the F1 of predicting inliers only.

    The dotted line is the F1 of the constant prediction; a curve that does not rise above it is no
    better. Create it with `from_estimator` or `from_predictions`; `plot` draws it again.

    Parameters
    ----------
    {scores}

    Attributes
    ----------
    {axes}
    curves_ : list of F1Curve
        The curves, as returned by `gandetect.metrics.f1_over_tau`.
    threshold_line_ : matplotlib Line2D or None

    References
    ----------
    .. [1] M. Sabokrou, M. Khalooei, M. Fathy, E. Adeli, "Adversarially Learned One-Class
       Classifier for Novelty Detection", CVPR 2018, Figure 8.

    Examples
    --------
    >>> from gandetect.plotting import F1OverTauDisplay
    >>> display = F1OverTauDisplay.from_predictions([0, 0, 0, 1], [0.1, 0.2, 0.6, 0.5])
    >>> round(display.curves_[0].constant_f1, 3), round(float(display.curves_[0].f1.max()), 3)
    (0.857, 0.857)
    """

    def plot(
        self,
        ax: Axes | None = None,
        *,
        outlier_shares: Sequence[float] | None = None,
        random_state: int | None = None,
    ) -> Self:
        """Draw the curve and the constant prediction for each share of outliers.

        Parameters
        ----------
        {ax}
        outlier_shares : sequence of float or None, default=None
            Shares of outliers to draw, up to seven; the paper uses 0.1 to 0.5. None takes all
            samples, with the share of outliers that they have.
        random_state : int or None, default=None
            Seed of the random choice of outliers for each share.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a share needs more outliers than there are, or there are more than seven shares.
        """
        shares = [None] if outlier_shares is None else list(outlier_shares)
        if len(shares) > len(OKABE_ITO):
            raise ValueError(
                f"At most {len(OKABE_ITO)} curves can be drawn, got {len(shares)} shares."
            )
        is_outlier, scores = self._labelled_scores()
        self.curves_ = [
            f1_over_tau(is_outlier, scores, outlier_share=share, random_state=random_state)
            for share in shares
        ]
        ax = self._draw_in(ax, figsize=(7.2, 4.2))
        for curve, color, marker in zip(self.curves_, OKABE_ITO, MARKERS, strict=False):
            _draw(ax, curve, color, marker)
        floor = f": {self.curves_[0].constant_f1:.2f}" if len(self.curves_) == 1 else ""
        ax.plot([], [], color=BLACK, linestyle=":", label=f"all predicted as inliers{floor}")
        self.threshold_line_ = None
        if self.threshold is not None:
            label = f"threshold {self.threshold:.3g}"
            self.threshold_line_ = ax.axvline(
                self.threshold, color=BLACK, linestyle="--", linewidth=1.5, label=label
            )
        ax.set_xlabel(f"τ: {SCORE_LABEL[0].lower()}{SCORE_LABEL[1:]}")
        ax.set_ylabel("F1 of the inliers")
        ax.set_ylim(0, 1.02)
        ax.spines[["top", "right"]].set_visible(False)
        legend_right(ax)
        if self.name is not None:
            ax.set_title(self.name, loc="left")
        return self


def _draw(ax: Axes, curve: F1Curve, color: str, marker: str) -> None:
    """Draw a curve, and the F1 of the constant prediction in its colour and with its marker."""
    ax.plot(
        curve.taus,
        curve.f1,
        color=color,
        linewidth=1.8,
        marker=marker,
        # A few markers on each curve distinguish the curves without their colours.
        markevery=(0.05, 0.2),
        markersize=5,
        label=f"{percent(curve.outlier_share)} outliers, best {curve.f1.max():.2f}",
    )
    ax.axhline(
        curve.constant_f1, color=color, linestyle=":", linewidth=1.2, marker=marker, markersize=5
    )
