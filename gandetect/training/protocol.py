"""scikit-learn's callback protocol, or a replacement for versions before scikit-learn 1.9.

With the replacement, a fit runs without callbacks, and attaching a callback raises an error. All
modules of gandetect import the protocol from this module.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import sklearn

HAS_CALLBACKS = find_spec("sklearn.callback") is not None

__all__ = ["HAS_CALLBACKS", "CallbackContext", "CallbackSupportMixin", "with_callbacks"]

if TYPE_CHECKING or HAS_CALLBACKS:
    from sklearn.callback import CallbackContext, CallbackSupportMixin, with_callbacks
else:

    class CallbackContext:
        """A task without callbacks."""

        def subcontext(self, **_: Any) -> Self:
            """Return this object as the context of a subtask."""
            return self

        def call_on_fit_task_begin(self, **_: Any) -> None:
            """Call nothing."""

        def call_on_fit_task_end(self, **_: Any) -> bool:
            """Call nothing; the fit continues."""
            return False

    class CallbackSupportMixin:
        """The base class of detectors if scikit-learn has no callbacks."""

        def set_callbacks(self, *callbacks: Any) -> Self:
            """Raise an error if there are callbacks.

            Raises
            ------
            ImportError
                If there are callbacks: they need scikit-learn 1.9.
            """
            if callbacks:
                raise ImportError(
                    "Callbacks need scikit-learn 1.9 or newer, and this is scikit-learn "
                    f"{sklearn.__version__}: pip install --upgrade scikit-learn, or fit without "
                    "set_callbacks."
                )
            return self

        def _init_callback_context(self, **_: Any) -> CallbackContext:
            return CallbackContext()

    def with_callbacks(method: Any) -> Any:
        """Return the method unchanged."""
        return method
