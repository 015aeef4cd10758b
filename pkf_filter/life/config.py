"""What the parameters of a track's life and of scores mean, once for the image and for space.

The two filters have defaults of their own, since they see other detectors and other motions.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Scores of a detector
DetectionProbability = Annotated[
    float, Field(gt=0, lt=1, description="share of the time in which an object in view is detected, at even score")
]
DetectionSlope = Annotated[
    float, Field(ge=0, description="log odds of the detection probability per log odds of the object's score")
]
ScoreOffset = Annotated[float, Field(gt=0, lt=1, description="even score: as likely of a true as of a false detection")]
ScoreSlope = Annotated[float, Field(ge=0, description="log odds of a true detection per log odds of its score")]
Occlusion = Annotated[
    float, Field(ge=0, lt=1, description="share of detections lost behind a nearer object that covers all of one")
]

# Pairs
GateDistance = Annotated[float, Field(gt=0, description="pairs above this Mahalanobis distance are impossible")]
ClassMismatch = Annotated[
    float, Field(gt=0, le=1, description="factor on the likelihood of a pair of two classes, of one group in space")
]

AssociationTime = Annotated[
    float,
    Field(
        ge=0,
        description="seconds that the association of a frame may take before the next ones are made cheaper; 0: any, "
        "and the same input always gives the same tracks",
    ),
]

# A track's life
BirthExistence = Annotated[
    float, Field(gt=0, lt=1, description="existence probability of a detection of even score that is of no track")
]
MinBirth = Annotated[float, Field(gt=0, lt=1, description="no track from a detection of less existence probability")]
HalfLife = Annotated[float, Field(gt=0, description="seconds in which half of all objects vanish")]
Confirmation = Annotated[float, Field(gt=0, lt=1, description="existence probability that confirms a track")]
Deletion = Annotated[float, Field(gt=0, lt=1, description="existence probability below which a track ends")]
MaxSilence = Annotated[float, Field(gt=0, description="seconds without measurement after which a track ends")]
ScoreMemory = Annotated[float, Field(ge=0, lt=1, description="share of the old score in the new one, at most")]
MaxLag = Annotated[float, Field(ge=0, description="seconds by which a measurement may be late")]
