"""The whole path from a sample to its score and label as one module, which can be traced."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gandetect.base import BaseDetector
from gandetect.model.thresholds import WORST_SCORE


class ScoringGraph(nn.Module):
    """A fitted detector as a torch module: scaler, networks of all members, score, threshold.

    It is written over the hooks that every detector has, and is on the CPU.

    Parameters
    ----------
    detector : BaseDetector
        Fitted.

    Raises
    ------
    ValueError
        If `score` was changed after the threshold was set.
    """

    def __init__(self, detector: BaseDetector) -> None:
        super().__init__()
        detector._check_threshold()
        # torch.export.save warns of weights that lie in memory in an order of their own.
        layout = {"memory_format": torch.contiguous_format}
        networks = copy.deepcopy(detector.networks_).cpu().eval()
        self.networks = networks.to(**layout)  # type: ignore[call-overload]  # absent from stubs
        self.scaler = detector.scaler_
        self.threshold = detector.threshold_
        self.n_members = detector.n_members_
        self.sample_shape = detector.sample_shape_
        self.has_channels_last = len(detector.input_shape_) == 3 and detector.channel_axis != 0
        self.score_of = detector._fitted_score_function()

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly scores (n,) in float64 and labels (n,), +1 or -1.

        Parameters
        ----------
        X : Tensor of shape ``(n, *input_shape_)``, float64
            In the user's units and layout.
        """
        if self.has_channels_last:
            X = X.movedim(-1, 1)
        x = self.scaler.of_tensor(X.reshape(X.shape[0], *self.sample_shape))
        x = x.unsqueeze(0).expand(self.n_members, -1, *self.sample_shape)
        score = self.score_of(self.networks, x)
        # A score that is not a number compares as false: it is the worst, as in the detector.
        score = torch.where(score.abs() < WORST_SCORE, score, WORST_SCORE)
        return score, torch.where(score <= self.threshold, 1, -1)
