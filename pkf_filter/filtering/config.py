"""How measurements correct tracks: what both trackers can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from camtrack_core.config import Parameters
from pkf_filter.filtering.update import Spread


class Correction(Parameters):
    """How measurements of uncertain origin correct tracks, in the image as in space."""

    identities: Literal["averaged", "resolved"] = Field(
        "averaged", description="whose a measurement is: averaged over all events (the paper), or that of the likeliest"
    )
    spread: Spread = Field(
        "means",
        description="what is added to the covariance: nothing (the paper), the spread of the measurements, or that of "
        "a mixture of corrected and predicted states",
    )
