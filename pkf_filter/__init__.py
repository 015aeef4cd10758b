"""PKF: a Kalman filter with probabilistic data association, computed exactly. Usable without ROS."""

from pkf_filter.config import FilterConfig
from pkf_filter.tracker import TimeError, Tracker
from pkf_filter.update import pkf_update
from pkf_filter.weights import AssociationError, AssociationWeights, association_weights

__all__ = [
    "AssociationError",
    "AssociationWeights",
    "FilterConfig",
    "TimeError",
    "Tracker",
    "association_weights",
    "pkf_update",
]
