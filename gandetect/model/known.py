"""The use of known anomalies: fake samples for training, and a part of the score."""

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

# The part of the score of a detector that was trained on known anomalies.
KNOWN = "known_anomalies"
# The weight of the part relative to all other parts, for rows and for images.
KNOWN_WEIGHT = (1.0, 1.0)
# Number of nearest normal samples for mixtures, and the noise on rows, in scaled units.
_N_NEAR, _NOISE = 10, 0.1
# Number of trees, their largest depth, and the smallest number of samples in a leaf.
_N_TREES, _MAX_DEPTH, _MIN_SAMPLES = 200, 12, 2
# Number of mixtures for the trees: a minimum, and a share of the normal samples.
_LEAST_MIXTURES, _MIXTURES_SHARE = 200, 5
# Largest number of normal samples for the trees: more take longer, and improve little.
MAX_NORMAL = 10_000
# Added to the share of the votes and to its complement, so that log-odds are finite.
_DOUBT = 0.05
# The smallest standard deviation of the log-odds of normal rows.
_LEAST_DEVIATION = 0.5
# Number of candidates for each sample that is selected for labelling.
_N_CANDIDATES = 5
# Distances are at least this share of the mean, because the logarithm of smaller distances is
# mostly rounding error.
_LEAST_DISTANCE = 0.1
# The largest number of values in an array of differences; it limits the memory.
_BLOCK_VALUES = 2**22


@dataclass(frozen=True, eq=False)
class KnownAnomalies:
    """Known anomalies and their nearest normal samples, all scaled.

    Parameters
    ----------
    anomalies : Tensor of shape (n, *sample_shape)
    normal : Tensor of shape (n_normal, *sample_shape)
    near : Tensor of shape (n, n_near)
        For each anomaly the indices of the nearest normal samples.
    masks : Tensor of shape (n, H, W) or None, default=None
        1 at the defect of an image.

    References
    ----------
    Dong, Mukhopadhyay, Sahu and Wang, "NNG-Mix: improving semi-supervised anomaly detection with
    pseudo-anomaly generation", arXiv 2311.11961, 2023. Here the anomaly has a weight of at least
    one half in a mixture, so that mixtures are anomalous too, and images get no noise.
    """

    anomalies: Tensor
    normal: Tensor
    near: Tensor
    masks: Tensor | None = None

    @classmethod
    def among(cls, anomalies: Tensor, normal: Tensor, masks: Tensor | None = None) -> Self:
        """Find the normal samples nearest to the anomalies.

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
            The mixtures, and the normal samples in them.
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
        """Draw fake samples for a discriminator: half anomalies, half mixtures.

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
    """Draw shares from Beta(1/2, 1/2); each share s is replaced by the larger of s and 1 - s."""
    # The arcsine distribution: the squared sine of a uniform angle.
    angle = math.pi / 2 * torch.rand(shape, generator=generator, dtype=torch.float32)
    share = angle.sin().square()
    return torch.maximum(share, 1 - share)


def shrunk_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks (n, H, W) to a coarser grid (n, h, w): 1 if at least half of a cell is masked.

    If a defect fills less than half of every cell, the cell with the largest share is marked.
    """
    share = F.adaptive_avg_pool2d(masks[:, None], size)[:, 0]
    least = share.amax(dim=(1, 2), keepdim=True).clamp(max=0.5)
    return ((share >= least) & (share > 0)).to(masks)


class AnomalyTrees(nn.Module):
    """Trees that classify rows as known anomalies or normal, with their log-odds.

    They are extremely randomised trees: splits are drawn at random, so that they contain no value
    of a training row. The output of a tree is discontinuous; therefore the input is scaled values
    only, whose bits do not depend on the batch. Each half of the trees is trained on another half
    of the normal rows, so that for every normal row there are trees that were not trained on it.

    Parameters
    ----------
    features : Tensor of shape (n_trees, n_nodes), int64
        The column that a node compares.
    splits : Tensor of shape (n_trees, n_nodes), float32
        The left child follows if the value of a row is at most the split, otherwise the right one.
    left, right : Tensor of shape (n_trees, n_nodes), int64
        Indices of the child nodes; the children of a leaf are the leaf itself.
    votes : Tensor of shape (n_trees, n_nodes), float32
        The share of anomalies in a leaf, with equal total weights of both classes.
    depth : int
        Depth of the deepest leaf.

    References
    ----------
    Geurts, Ernst and Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006.
    """

    # The largest depth of the trees in a saved file.
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
        # All trees are concatenated, and nodes are numbered consecutively.
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
            Known anomalies in rows. The first half of the trees is trained on the normal rows with
            even indices, the second half on those with odd indices.
        generator : torch.Generator
        """
        # Imported here, because importing scikit-learn's trees takes as long as a small fit.
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
        """Create trees from the result of `values_of`, for rows with `n_values` values.

        Raises
        ------
        LookupError, TypeError, ValueError
            If `values` are not valid trees.
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
                raise ValueError(f"the {name} of its trees have another shape or type")
            if is_number and not bool(((values_of >= 0) & (values_of < numbers[name])).all()):
                raise ValueError(f"the {name} of its trees are not valid nodes")
        if not bool(trees.splits.isfinite().all() & (trees.votes >= 0).all()):
            raise ValueError("its trees have splits that are not finite, or negative votes")
        if not bool((trees.votes <= 1).all()):
            raise ValueError("its trees have votes above 1")
        return trees

    def shares(self, points: Tensor) -> Tensor:
        """Return the share of votes (2, B) for rows (1, B, d), for each half of the trees."""
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
        """Return the divisor of log-odds in the score, from their deviation on normal rows.

        If normal rows are well separated from the anomalies, the standard deviation is small and
        has no meaning. If it is large, the trees are uncertain and get less weight; otherwise they
        would rank normal rows above anomalies of other kinds.
        """
        steepness = (deviation / _LEAST_DEVIATION).clamp(min=1).sqrt()
        return deviation.clamp(min=_LEAST_DEVIATION) * steepness

    @staticmethod
    def log_odds(share: Tensor) -> Tensor:
        """Return the log-odds of a share of the votes."""
        return ((share + _DOUBT) / (1 + _DOUBT - share)).log()

    def forward(self, points: Tensor) -> Tensor:
        """Return the log-odds (1, B) of rows (1, B, d) for the class of known anomalies."""
        return self.log_odds(self.shares(points).mean(0, keepdim=True))

    def of_unseen(self, shares: Tensor, half: Tensor) -> Tensor:
        """Return the log-odds (1, n) by the trees that were not trained on each row.

        Parameters
        ----------
        shares : Tensor of shape (2, n)
        half : Tensor of shape (n,), int64
            The half of the trees that was trained on a row; -1 for none.
        """
        both = shares.mean(0)
        other = torch.where(half == 0, shares[1], shares[0])
        return self.log_odds(torch.where(half < 0, both, other))[None]

    def values_of(self) -> dict[str, Any]:
        """Return the trees as data."""
        names = ("features", "splits", "left", "right", "votes")
        return {**{name: getattr(self, name) for name in names}, "depth": self.depth}


def _rounded_down(splits: np.ndarray) -> Tensor:
    """Round splits down to float32, so that float32 values take the same path in the trees."""
    rounded = splits.astype(np.float32)
    is_larger = rounded > splits
    down = np.nextafter(rounded, np.float32(-np.inf), dtype=np.float32)
    return torch.from_numpy(np.where(is_larger, down, rounded))


class KnownDistances(nn.Module):
    """The log ratio of the distances of a code to normal and to known anomalous samples.

    It is the logarithm of the mean distance to the five nearest normal codes, minus half of the
    logarithm of the distance to the nearest known anomalous code. It is used for images, whose
    pixels are not individual features. In another batch, codes may be rounded differently; this
    changes the result little, because the logarithm of a distance is continuous.

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
        """Create the object from the result of `values_of`, for codes with `n_values` values.

        Raises
        ------
        LookupError, TypeError, ValueError
            If `values` are not valid codes.
        """
        for name in ("normal", "anomalous"):
            codes = values[name]
            if codes.ndim != 3 or codes.shape[::2] != (n_members, n_values) or not codes.shape[1]:
                raise ValueError(f"its {name} codes have another shape")
            if codes.dtype != torch.float32 or not bool(codes.isfinite().all()):
                raise ValueError(f"its {name} codes are not finite numbers")
        return cls(**values)

    def forward(self, points: Tensor) -> Tensor:
        """Return the log ratios (K, B) for codes (K, B, n_dimensions)."""
        of_normal = self.references.distance(points)
        differences = points[:, :, None] - self.anomalous[:, None]
        of_anomalous = torch.linalg.vector_norm(differences, dim=-1).amin(-1)
        of_both = torch.stack([of_normal, of_anomalous])
        logarithms = 0.5 * (of_both.square() + self.least.square()).log()
        ratio: Tensor = logarithms[0] - 0.5 * logarithms[1]
        return ratio

    def values_of(self) -> dict[str, Any]:
        """Return the reference codes as data."""
        return {"normal": self.normal, "anomalous": self.anomalous}


def worth_labelling(margin: np.ndarray, points: np.ndarray, n: int) -> np.ndarray:
    """Select samples that are near to the threshold and far from each other.

    The candidates are the 5 n samples with the smallest margins. The first selected sample has the
    smallest margin, and each further one is the candidate farthest from the selected ones.

    Parameters
    ----------
    margin : ndarray of shape (n_samples,)
        The distance of a sample to the threshold.
    points : ndarray of shape (n_samples, n_dimensions)
    n : int

    Returns
    -------
    ndarray of int, shape (n,)
        Positions of samples in the order of selection.

    References
    ----------
    Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach",
    ICLR 2018, algorithm 1, applied to the samples near to the threshold only.

    Examples
    --------
    >>> import numpy as np
    >>> from gandetect.model.known import worth_labelling
    >>> points = np.array([[0.0], [0.1], [3.0], [9.0]])
    >>> worth_labelling(np.array([1.0, 2.0, 3.0, 9.0]), points, 2).tolist()
    [0, 3]
    """
    order = np.argsort(margin, kind="stable")
    # Duplicates need one label only.
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
