"""What is made of a few known anomalies: further fakes for training, and a part of the score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gandetect.model.statistics import Neighbours

# The part of the score that a detector has which learned from known anomalies.
KNOWN = "known_anomalies"
# What the part weighs beside all others together, of rows and of images.
KNOWN_WEIGHT = (1.0, 1.0)
# Near normal samples that an anomaly is mixed with, and the noise on rows, in scaled units.
_N_NEAR, _NOISE = 10, 0.1
# Trees, their largest depth, and the least samples of a leaf.
_N_TREES, _MAX_DEPTH, _MIN_SAMPLES = 200, 12, 2
# Mixtures that the trees learn from: at least so many, and a share of the normal samples.
_LEAST_MIXTURES, _MIXTURES_SHARE = 200, 5
# Normal samples that known anomalies are told from at most: more take longer, and add little.
MAX_NORMAL = 10_000
# What is added to the share of the trees' votes, and to what is left of it: no vote is certain.
_DOUBT = 0.05
# The deviation of log-odds among normal rows below which it is taken for this.
_LEAST_DEVIATION = 0.5
# Samples among which one to be labelled is chosen.
_N_CANDIDATES = 5
# Distances below this share of the usual one say nothing: their logarithm would be one of rounding.
_LEAST_DISTANCE = 0.1
# Values of an array of differences, which bounds the memory.
_BLOCK_VALUES = 2**22


@dataclass(frozen=True, eq=False)
class KnownAnomalies:
    """Known anomalies beside the normal samples that are nearest to them, all scaled.

    Parameters
    ----------
    anomalies : Tensor of shape (n, *sample_shape)
    normal : Tensor of shape (n_normal, *sample_shape)
    near : Tensor of shape (n, n_near)
        For each anomaly the numbers of the nearest normal samples.
    masks : Tensor of shape (n, H, W) or None, default=None
        1 where the defect of an image is.

    References
    ----------
    Dong, Mukhopadhyay, Sahu and Wang, "NNG-Mix: improving semi-supervised anomaly detection with
    pseudo-anomaly generation", arXiv 2311.11961, 2023. Here an anomaly has at least half of a
    mixture, so that mixtures are anomalous too, and images get no noise.
    """

    anomalies: Tensor
    normal: Tensor
    near: Tensor
    masks: Tensor | None = None

    @classmethod
    def among(cls, anomalies: Tensor, normal: Tensor, masks: Tensor | None = None) -> Self:
        """Find the normal samples that are near to the anomalies.

        Parameters
        ----------
        anomalies, normal : Tensor of shape (n, *sample_shape)
        masks : Tensor of shape (n, H, W) or None, default=None
        """
        points, references = anomalies.flatten(1), normal.flatten(1)
        n_near = min(_N_NEAR, len(references))
        n_at_once = max(_BLOCK_VALUES // len(references), 1)
        near = [
            torch.cdist(block, references).topk(n_near, largest=False).indices
            for block in points.split(n_at_once)
        ]
        return cls(anomalies, normal, torch.cat(near), masks)

    def mixtures(self, n_members: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw mixtures of an anomaly and a near normal sample.

        Parameters
        ----------
        n_members, n : int
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        mixtures, normal : Tensor of shape (n_members, n, *sample_shape)
            The second are the normal samples that were mixed in.
        """
        shape = (n_members, n)
        which = torch.randint(len(self.anomalies), shape, generator=generator)
        neighbour = torch.randint(self.near.shape[1], shape, generator=generator)
        share = _beta(shape, generator)
        noise: Tensor | float = 0.0
        if self.anomalies.ndim == 2:
            width = self.anomalies.shape[1]
            noise = _NOISE * torch.randn(*shape, width, generator=generator, dtype=torch.float32)
            noise = noise.to(self.anomalies)
        device = self.anomalies.device
        which, neighbour = which.to(device), neighbour.to(device)
        normal = self.normal[self.near[which, neighbour]]
        share = share.to(normal).reshape(*shape, *[1] * (normal.ndim - 2))
        return share * self.anomalies[which] + (1 - share) * normal + noise, normal

    def fakes(self, n_members: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw what a discriminator takes for fakes: half anomalies, half mixtures.

        Parameters
        ----------
        n_members, n : int
        generator : torch.Generator

        Returns
        -------
        Tensor of shape (n_members, n, *sample_shape)
        """
        fakes, _ = self.mixtures(n_members, n, generator)
        which = torch.randint(len(self.anomalies), (n_members, n // 2), generator=generator)
        fakes[:, : n // 2] = self.anomalies[which.to(fakes.device)]
        return fakes

    def __len__(self) -> int:
        return len(self.anomalies)


def _beta(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Shares drawn from Beta(1/2, 1/2), the larger of each and what it leaves."""
    # The arcsine law: the squared sine of an angle that is drawn evenly.
    angle = math.pi / 2 * torch.rand(shape, generator=generator, dtype=torch.float32)
    share = angle.sin().square()
    return torch.maximum(share, 1 - share)


def shrunk_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (n, H, W) on a coarser grid (n, h, w): 1 where half of a cell is masked.

    Of a defect that fills half of no cell, the cells are marked that it fills most.
    """
    share = F.adaptive_avg_pool2d(masks[:, None], size)[:, 0]
    least = share.amax(dim=(1, 2), keepdim=True).clamp(max=0.5)
    return ((share >= least) & (share > 0)).to(masks)


class AnomalyTrees(nn.Module):
    """Trees that tell known anomalous rows from normal ones, and how sure they are of it.

    They are extremely randomised trees: splits are drawn at random, so that they hold no value of
    a training row. They look at scaled values alone, whose bits do not depend on a batch, because a
    tree jumps where a value passes a split. Each of two halves of the trees has seen one half of
    the normal rows, so that for every one of these there are trees that have not seen it.

    Parameters
    ----------
    features : Tensor of shape (n_trees, n_nodes), int64
        The column that a node compares.
    splits : Tensor of shape (n_trees, n_nodes), float32
        A row goes left if its value is at most this.
    left, right : Tensor of shape (n_trees, n_nodes), int64
        Numbers of nodes; a leaf leads to itself.
    votes : Tensor of shape (n_trees, n_nodes), float32
        The share of the anomalies in a leaf, both kinds weighing the same in all.
    depth : int
        Of the deepest leaf.

    References
    ----------
    Geurts, Ernst and Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006.
    """

    # The most that a saved file may ask for.
    most_depth: ClassVar[int] = 64

    features: Tensor
    splits: Tensor
    left: Tensor
    right: Tensor
    votes: Tensor

    def __init__(
        self,
        features: Tensor,
        splits: Tensor,
        left: Tensor,
        right: Tensor,
        votes: Tensor,
        depth: int,
    ) -> None:
        super().__init__()
        self.depth, self.n_trees = depth, len(features)
        for name, values in {
            "features": features,
            "splits": splits,
            "left": left,
            "right": right,
            "votes": votes,
        }.items():
            self.register_buffer(name, values)
        # All trees lie behind each other, and nodes are counted through.
        first = torch.arange(self.n_trees)[:, None] * features.shape[1]
        self.register_buffer("next_left", (left + first).flatten(), persistent=False)
        self.register_buffer("next_right", (right + first).flatten(), persistent=False)
        self.register_buffer("first", first.flatten(), persistent=False)
        self.next_left: Tensor
        self.next_right: Tensor
        self.first: Tensor

    @classmethod
    def of(cls, known: KnownAnomalies, generator: torch.Generator) -> Self:
        """Fit the trees to normal rows, known anomalies and mixtures.

        Parameters
        ----------
        known : KnownAnomalies
            Of rows. Of its normal rows the even ones are seen by the first half of the trees, the
            odd ones by the second.
        generator : torch.Generator
        """
        # scikit-learn's trees take as long to import as a small fit.
        from sklearn.ensemble import ExtraTreesClassifier

        n_mixtures = max(_LEAST_MIXTURES, len(known.normal) // _MIXTURES_SHARE)
        mixtures, _ = known.mixtures(1, n_mixtures, generator)
        anomalous = torch.cat([known.anomalies, mixtures[0]]).cpu().numpy()
        trees: list[Any] = []
        for half in range(2):
            normal = known.normal[half::2] if len(known.normal) > 1 else known.normal
            X = np.concatenate([normal.cpu().numpy(), anomalous])
            y = np.arange(len(X)) >= len(normal)
            seed = int(torch.randint(2**31 - 1, (), generator=generator))
            forest = ExtraTreesClassifier(
                _N_TREES // 2,
                max_depth=_MAX_DEPTH,
                min_samples_leaf=_MIN_SAMPLES,
                class_weight="balanced",
                random_state=seed,
            )
            trees += [tree.tree_ for tree in forest.fit(X, y).estimators_]
        n_nodes = max(tree.node_count for tree in trees)
        shape = (len(trees), n_nodes)
        itself = np.broadcast_to(np.arange(n_nodes), shape)
        features, splits, votes = np.zeros(shape, int), np.zeros(shape), np.zeros(shape)
        left, right = itself.copy(), itself.copy()
        for i, tree in enumerate(trees):
            is_leaf = tree.children_left < 0
            nodes = slice(tree.node_count)
            features[i, nodes] = np.where(is_leaf, 0, tree.feature)
            splits[i, nodes] = np.where(is_leaf, 0, tree.threshold)
            for to, children in ((left, tree.children_left), (right, tree.children_right)):
                to[i, nodes] = np.where(is_leaf, itself[i, nodes], children)
            votes[i, nodes] = tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1)
        return cls(
            torch.from_numpy(features),
            _rounded_down(splits),
            torch.from_numpy(left),
            torch.from_numpy(right),
            torch.from_numpy(votes).float(),
            max(tree.max_depth for tree in trees),
        )

    @classmethod
    def loaded(cls, values: Mapping[str, Any], n_values: int) -> Self:
        """What `values_of` gave, for rows of so many values.

        Raises
        ------
        LookupError, TypeError, ValueError
            If these are no such trees.
        """
        trees = cls(**values)
        shape = trees.features.shape
        numbers = {"features": n_values, "left": shape[-1], "right": shape[-1]}
        if len(shape) != 2 or not all(shape) or type(trees.depth) is not int:
            raise ValueError("its trees have no nodes")
        if not 0 <= trees.depth <= cls.most_depth:
            raise ValueError("its trees are too deep")
        for name, values_of in trees.named_buffers():
            if name.startswith(("next_", "first")):
                continue
            is_number = name in numbers
            kind = torch.int64 if is_number else torch.float32
            if values_of.shape != shape or values_of.dtype != kind:
                raise ValueError(f"its trees have other {name}")
            if is_number and not bool(((values_of >= 0) & (values_of < numbers[name])).all()):
                raise ValueError(f"the {name} of its trees lead nowhere")
        if not bool(trees.splits.isfinite().all() & (trees.votes >= 0).all()):
            raise ValueError("its trees compare with no numbers")
        if not bool((trees.votes <= 1).all()):
            raise ValueError("its trees have more than a vote")
        return trees

    def shares(self, points: Tensor) -> Tensor:
        """The share of the votes of each half of the trees (2, B) that rows (1, B, d) get."""
        x = points[0]
        node = self.first.expand(x.shape[0], -1)
        features, splits = self.features.flatten(), self.splits.flatten()
        for _ in range(self.depth):
            goes_left = x.gather(1, features[node]) <= splits[node]
            node = torch.where(goes_left, self.next_left[node], self.next_right[node])
        votes: Tensor = self.votes.flatten()[node].unflatten(1, (2, -1))
        return votes.mean(-1).T

    @staticmethod
    def unit(deviation: Tensor) -> Tensor:
        """By what log-odds are divided in the score, for their deviation among normal rows.

        Where normal rows are told well from the anomalies it is small, and says nothing. Where it
        is large, the trees are unsure, and count the less: they would put normal rows above
        anomalies of other kinds.
        """
        steepness = (deviation / _LEAST_DEVIATION).clamp(min=1).sqrt()
        return deviation.clamp(min=_LEAST_DEVIATION) * steepness

    @staticmethod
    def log_odds(share: Tensor) -> Tensor:
        """How much more likely than not, for a share of the votes."""
        return ((share + _DOUBT) / (1 + _DOUBT - share)).log()

    def forward(self, points: Tensor) -> Tensor:
        """The log-odds (1, B) that rows (1, B, d) are like the known anomalies."""
        return self.log_odds(self.shares(points).mean(0, keepdim=True))

    def of_unseen(self, shares: Tensor, half: Tensor) -> Tensor:
        """The log-odds (1, n) by the trees that have not seen a row.

        Parameters
        ----------
        shares : Tensor of shape (2, n)
        half : Tensor of shape (n,), int64
            The half of the trees that has seen a row; -1 for none.
        """
        both = shares.mean(0)
        other = torch.where(half == 0, shares[1], shares[0])
        return self.log_odds(torch.where(half < 0, both, other))[None]

    def values_of(self) -> dict[str, Any]:
        """What the trees consist of, as data."""
        names = ("features", "splits", "left", "right", "votes")
        return {**{name: getattr(self, name) for name in names}, "depth": self.depth}


def _rounded_down(splits: np.ndarray) -> Tensor:
    """The largest float32 numbers that are not larger: float32 values go the same way."""
    rounded = splits.astype(np.float32)
    is_larger = rounded > splits
    down = np.nextafter(rounded, np.float32(-np.inf), dtype=np.float32)
    return torch.from_numpy(np.where(is_larger, down, rounded))


class KnownDistances(nn.Module):
    """How much nearer a code is to known anomalous samples than to normal ones.

    The logarithm of the mean distance to the five nearest normal codes less half of that of the
    distance to the nearest known anomalous one. Codes are those of images, which have no columns
    that mean something by themselves; they may be rounded otherwise in another batch, and a
    logarithm of distances does not jump.

    Parameters
    ----------
    normal : Tensor of shape (n_members, n_normal, n_dimensions)
    anomalous : Tensor of shape (n_members, n_known, n_dimensions)
    """

    normal: Tensor
    anomalous: Tensor

    def __init__(self, normal: Tensor, anomalous: Tensor) -> None:
        super().__init__()
        self.register_buffer("normal", normal)
        self.register_buffer("anomalous", anomalous)
        self.references = Neighbours.plain(normal)
        usual = self.references.distance(normal).mean(1, keepdim=True)
        least = _LEAST_DISTANCE * torch.where(usual > 0, usual, 1.0)
        self.register_buffer("least", least, persistent=False)
        self.least: Tensor

    @classmethod
    def loaded(cls, values: Mapping[str, Any], n_members: int, n_values: int) -> Self:
        """What `values_of` gave, for codes of so many values.

        Raises
        ------
        LookupError, TypeError, ValueError
            If these are no such codes.
        """
        for name in ("normal", "anomalous"):
            codes = values[name]
            if codes.ndim != 3 or codes.shape[::2] != (n_members, n_values) or not codes.shape[1]:
                raise ValueError(f"its {name} codes have another shape")
            if codes.dtype != torch.float32 or not bool(codes.isfinite().all()):
                raise ValueError(f"its {name} codes are no finite numbers")
        return cls(**values)

    def forward(self, points: Tensor) -> Tensor:
        """The logarithms (K, B) for codes (K, B, n_dimensions)."""
        of_normal = self.references.distance(points)
        differences = points[:, :, None] - self.anomalous[:, None]
        of_anomalous = torch.linalg.vector_norm(differences, dim=-1).amin(-1)
        of_both = torch.stack([of_normal, of_anomalous])
        logarithms = 0.5 * (of_both.square() + self.least.square()).log()
        ratio: Tensor = logarithms[0] - 0.5 * logarithms[1]
        return ratio

    def values_of(self) -> dict[str, Any]:
        """What the distances are taken to, as data."""
        return {"normal": self.normal, "anomalous": self.anomalous}


def worth_labelling(margin: np.ndarray, points: np.ndarray, n: int) -> np.ndarray:
    """Choose samples that are near to the threshold and far from each other.

    Of five times as many samples, those with the smallest margins, the first is the one with the
    smallest of all, and each further one that which is farthest from those chosen.

    Parameters
    ----------
    margin : ndarray of shape (n_samples,)
        How clear a sample is.
    points : ndarray of shape (n_samples, n_dimensions)
    n : int

    Returns
    -------
    ndarray of int, shape (n,)
        Numbers of samples in the order in which they were chosen.

    References
    ----------
    Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach",
    ICLR 2018, algorithm 1, on the samples near to the threshold alone.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.known import worth_labelling
    >>> points = np.array([[0.0], [0.1], [3.0], [9.0]])
    >>> worth_labelling(np.array([1.0, 2.0, 3.0, 9.0]), points, 2).tolist()
    [0, 3]
    """
    order = np.argsort(margin, kind="stable")
    # Of equal samples one label says all.
    is_first = np.zeros(len(order), dtype=bool)
    is_first[np.unique(points[order], axis=0, return_index=True)[1]] = True
    order = np.concatenate([order[is_first], order[~is_first]])
    candidates = order[: max(min(_N_CANDIDATES * n, int(is_first.sum())), n)]
    points = points[candidates].astype(np.float64)
    chosen = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < n:
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
        of_new = np.linalg.norm(points - points[chosen[-1]], axis=1)
        distance = np.where(distance < 0, distance, np.minimum(distance, of_new))
    return candidates[chosen]
