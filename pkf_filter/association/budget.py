"""How much time the association of a frame may take: what takes longer makes the next frames cheaper, by stated steps.

Every step bounds the states of a component's programme further: exact as far as memory kept for it goes, then exact or
with a bound in a fraction of it, then belief propagation for all but the smallest components. A frame is never left
half done: one that takes too long puts the next one a step lower, and one that takes a quarter of the time or less
a step up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from camtrack_core.geometry.boxes import Floats
from pkf_filter.association.weights import AssociationWeights, association_weights

STEPS = {"exact": 2.0**18, "bounded": 2.0**12, "propagated": 1.0}  # states of a component, at most
EASY = 0.25  # share of the budget up to which the next frame may take more


class Budget:
    """Association weights of frame after frame.

    Attributes:
        counts: frames so far by the step at which their weights were made.
        approximated: those of them whose weights are not exact, see `AssociationWeights.exact`.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """`seconds` of a frame's association; 0 is no limit, so that the same input always gives the same weights."""
        self.counts = dict.fromkeys(STEPS, 0)
        self.approximated = 0
        self._seconds, self._clock, self._step = seconds, clock, 0

    def __str__(self) -> str:
        """The counts, as diagnostics show them."""
        return ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)

    def associate(self, log_likelihood: Floats, log_clutter: Floats, log_missed: Floats) -> AssociationWeights:
        """`association_weights` of one frame, at the step that frames before it have led to."""
        name = list(STEPS)[self._step]
        started = self._clock()
        association = association_weights(log_likelihood, log_clutter, log_missed, STEPS[name])
        took = self._clock() - started
        self.counts[name] += 1
        self.approximated += not association.exact
        if self._seconds and took > self._seconds:
            self._step = min(self._step + 1, len(STEPS) - 1)
        elif took <= EASY * self._seconds:
            self._step = max(self._step - 1, 0)
        return association
