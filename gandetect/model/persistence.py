"""How a fitted detector is saved, loaded, pickled and copied."""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any, ClassVar, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from gandetect.archive import ArchiveError, read_archive, write_archive
from gandetect.classifiers import FORMS, LabelledClassifier
from gandetect.model.scaling import Scaler
from gandetect.model.scoring import Calibration, Neighbours
from gandetect.model.shared import Learned
from gandetect.networks import ARCHITECTURES
from gandetect.training.device import isolated_seed
from gandetect.training.report import TrainingReport

# The only classes that a saved file may hold, beside numbers, words and tensors.
SAVED_CLASSES = (
    Scaler,
    Calibration,
    Neighbours,
    TrainingReport,
    LabelledClassifier,
    *FORMS,
    *ARCHITECTURES,
)
# What a detector may raise that is made of values that nobody has checked.
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)


def is_learned(name: str) -> bool:
    """Whether an attribute is one that `fit` sets: only such ones are saved and loaded."""
    return name.endswith("_") and not name.startswith("_") and name != "networks_"


def _is_code(value: Any) -> bool:
    return not (value is None or isinstance(value, (bool, int, float, str, *SAVED_CLASSES)))


class PersistenceMixin(Learned):
    """Networks travel as weights on the CPU, and are rebuilt from the parameters."""

    # Parameters that may be code of the user's: left out of a file, and given again to `load`.
    code_parameters: ClassVar[tuple[str, ...]] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted detector as data only: JSON and tensors in one safetensors file.

        Parameters
        ----------
        path : str or path
            The file is replaced as a whole, or not at all. Read it with `gandetect.load`.

        Raises
        ------
        TypeError
            If a parameter is not data, such as an architecture of your own.
        """
        check_is_fitted(self)
        parameters = self._saved_parameters()
        if not isinstance(parameters["random_state"], Integral | None):
            parameters["random_state"] = None  # a generator's state is no part of what was learned
        left_out = [name for name in self.code_parameters if _is_code(parameters[name])]
        for name in left_out:
            del parameters[name]
        tree = {
            "detector": type(self).__name__,
            "parameters": parameters,
            "left_out": left_out,
            "learned": self._saved_learned(),
            "networks": dict(self.networks_.state_dict()),
        }
        write_archive(path, tree, SAVED_CLASSES)

    def _saved_parameters(self) -> dict[str, Any]:
        return self.get_params(deep=False)

    def _saved_learned(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if is_learned(name)}

    @classmethod
    def load(cls, path: str | os.PathLike[str], **given: Any) -> Self:
        """Load a detector of this class that `save` wrote; its scores are the same bits.

        Parameters
        ----------
        path : str or path
        **given
            The parameters that `save` left out because they are code of your own, such as
            ``classifier=network``.

        Returns
        -------
        detector

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ArchiveError
            If the file is damaged or holds something else.
        TypeError
            If a parameter that the file left out is not given, or another one is.
        """
        tree = read_archive(path, SAVED_CLASSES)
        found = tree.get("detector")
        if not isinstance(found, str) or found != cls.__name__:  # an array compares as an array
            raise ArchiveError(
                f"{str(path)!r} holds a {found}, not a {cls.__name__}: use gandetect.load."
            )
        left_out = tree.get("left_out", [])
        if not isinstance(left_out, list) or any(
            not isinstance(name, str) or name not in cls.code_parameters for name in left_out
        ):
            raise ArchiveError(f"{str(path)!r} leaves out what is no code: {left_out!r}.")
        if set(left_out) != set(given):
            wanted = ", ".join(f"{name}=..." for name in left_out) or "no parameters"
            raise TypeError(
                f"{str(path)!r} leaves out {left_out}, which were code of your own and no data: "
                f"pass {wanted} to load; got {sorted(given)}."
            )
        try:
            detector = cls(**tree["parameters"], **given)
            unknown = [name for name in tree["learned"] if not is_learned(name)]
            if unknown:
                raise ValueError(f"it has attributes that no detector learns: {unknown}")
            detector.__dict__.update(tree["learned"])
            detector._restore_networks(tree["networks"])
        except _DAMAGE as error:
            raise ArchiveError(f"{str(path)!r} does not hold a whole detector: {error}") from error
        return detector

    def _make_networks(self) -> nn.ModuleDict:
        raise NotImplementedError

    def _restore_networks(self, weights: dict[str, Tensor]) -> None:
        with isolated_seed(0, torch.device("cpu")):  # the initial weights are overwritten
            self.networks_ = self._make_networks()
        self.networks_.load_state_dict(weights)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "networks_" not in state:
            return state
        # Weights on the CPU instead of networks: they open on a machine without the device.
        weights = {name: w.cpu() for name, w in state["networks_"].state_dict().items()}
        return {**state, "networks_": weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "networks_" in state:
            self._restore_networks(state["networks_"])
