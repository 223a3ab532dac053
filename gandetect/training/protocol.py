"""scikit-learn's callback protocol, which scikit-learn 1.9 brought, or what takes its place.

Without it a fit runs as one without callbacks, and attaching a callback is refused. All of
gandetect imports the protocol from here.
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
            """Return a task below this one, which is the same."""
            return self

        def call_on_fit_task_begin(self, **_: Any) -> None:
            """Call nothing."""

        def call_on_fit_task_end(self, **_: Any) -> bool:
            """Call nothing, and let the fit go on."""
            return False

    class CallbackSupportMixin:
        """What a detector inherits where scikit-learn has no callbacks."""

        def set_callbacks(self, *callbacks: Any) -> Self:
            """Refuse callbacks; without any there is nothing to do.

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
        """Return the method as it is."""
        return method
