"""A camera's node in the batch that it shares with those of the other cameras of its process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.runtime.batch import Batch


class BatchMember:
    """Hands a node's frames to the batch, and has it run when they have waited long enough.

    Create it in the node's configure; `join` when the node is activated and `leave` when it is deactivated.
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
