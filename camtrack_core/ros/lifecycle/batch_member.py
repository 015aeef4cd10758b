"""A camera's node in the batch, and with the model, that it shares with the other cameras of its process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from camtrack_core.config import InferenceParameters
from camtrack_core.files import FileVersion
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.runtime import open_serving_session
from camtrack_core.runtime.batch import Batch, Model

M = TypeVar("M", bound=Model)

# What the nodes of this process use: with the last of its users a model goes, and all that it holds.
_MODELS: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
_BATCHES: WeakValueDictionary[Hashable, Batch[Any]] = WeakValueDictionary()


def shared_batch(kind: Callable[..., M], file: FileVersion, parameters: InferenceParameters) -> Batch[M]:
    """One batch for all nodes of a process that use the same session and wait as long for each other.

    They run one after the other, so that they can share the input of the session, too.

    Args:
        kind: makes the model of (path, device, threads, precision, device_id, what opens a session); raises what that
            does.
        file: the model, as it is now.
    """
    engine = parameters.device, parameters.threads, parameters.precision, parameters.device_id
    key = kind, file, engine
    model: M = _MODELS.get(key) or _MODELS.setdefault(key, kind(file.path, *engine, open_serving_session))
    patience = parameters.batch_timeout
    return _BATCHES.get((key, patience)) or _BATCHES.setdefault((key, patience), Batch(model, patience))


class BatchMember:
    """Hands a node's frames to the batch, and has it run when they have waited long enough.

    Create it in the node's configure; `join` when the node is activated and `leave` when it is deactivated. Let go
    of it, and of what else holds the model, when the node is cleaned up: the model may have been replaced.
    """

    def __init__(self, node: CamtrackNode[Any], batch: Batch[Any]) -> None:
        self._batch = batch
        self._patience_over = node.alarm(self._run_due)

    def join(self) -> None:
        self._batch.join(self)

    def leave(self) -> None:
        self._batch.leave(self)

    def forget(self) -> None:
        """Gives up the frame that waits."""
        self._batch.forget(self)

    def add(self, ask: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """As `Batch.add`."""
        try:
            self._batch.add(self, ask, done)
        finally:
            self._run_later()

    def _run_due(self) -> None:
        try:
            self._batch.run_due()
        finally:
            self._run_later()

    def _run_later(self) -> None:
        if self._batch.waits:
            self._patience_over.set(self._batch.patience)
