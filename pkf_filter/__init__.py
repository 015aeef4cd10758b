"""PKF: a Kalman filter with probabilistic data association, computed exactly. Usable without ROS."""

from pkf_filter import estimators
from pkf_filter.config import FilterConfig
from pkf_filter.tracker import TimeError, Tracker
from pkf_filter.update import pkf_update
from pkf_filter.weights import AssociationError, AssociationWeights, association_weights
from pkf_filter.world_config import ClassGroup, SensorModel, WorldConfig
from pkf_filter.world_tracker import WorldTracker

__all__ = [
    "AssociationError",
    "AssociationWeights",
    "ClassGroup",
    "FilterConfig",
    "SensorModel",
    "TimeError",
    "Tracker",
    "WorldConfig",
    "WorldTracker",
    "association_weights",
    "estimators",
    "pkf_update",
]
