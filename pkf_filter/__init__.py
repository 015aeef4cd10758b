"""PKF: a Kalman filter with probabilistic data association, computed exactly. Usable without ROS."""

from pkf_filter.association.weights import AssociationError, AssociationWeights, association_weights
from pkf_filter.filtering import estimators
from pkf_filter.filtering.update import pkf_update
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.tracker import Tracker
from pkf_filter.life.history import TimeError
from pkf_filter.space.config import ClassGroup, SensorModel, WorldConfig
from pkf_filter.space.tracker import WorldTracker

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
