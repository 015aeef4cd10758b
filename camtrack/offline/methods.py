"""The trackers that an offline run can use, fed with recordings, and the form that their tracks are written in."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from camtrack_core.datasets.frames import Frame, Sequence, attempts_of
from camtrack_core.datasets.kitti import sequences as kitti
from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.video import stamp_ns
from camtrack_core.errors import DataError
from camtrack_core.evaluation.kitti.text import write_kitti
from camtrack_core.evaluation.mot_text import write_mot
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes, write_submission
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, area
from camtrack_core.geometry.camera import Pose
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.runtime import Device, Precision

if TYPE_CHECKING:
    from time3d_tracker.tracker import Result as SpatialTracks

Method = Literal["gcnet", "time3d", "ground", "fusion", "pkf", "stack", "detections"]
THRESHOLD_FLOOR = 0.05  # score below which a detection is noise
SPATIAL = ("time3d", "ground", "fusion")
SMOOTHED = ("stack", "pkf", "fusion")  # what smoothing is for
# nuScenes' names of classes and of the motion (moving, stopped, parked), by those of Time3D.
SUBMITTED = {"cyclist": "bicycle"}
VEHICLE = ("vehicle.moving", "vehicle.stopped", "vehicle.parked")
ATTRIBUTES = {
    "pedestrian": ("pedestrian.moving", "pedestrian.standing", "pedestrian.standing"),
    "cyclist": ("cycle.with_rider", "cycle.with_rider", "cycle.without_rider"),
}


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    Attributes:
        method: gcnet, GCNet's own tracks; stack, those through PKF, as the nodes do; pkf, PKF on the public
            detections that come with a recording; time3d, Time3D's tracks in space; ground, GCNet's on flat ground;
            fusion, those of Time3D and GCNet through PKF in space, as the nodes do; detections, what GCNet finds in
            single frames, with ids of -1.
        model: exported GCNet or Time3D; of fusion Time3D.
        device, device_id: what runs it.
        precision: what it is computed in.
        skip_broken: frames that cannot be read are left out, as the nodes do, and counted; else they end a sequence.
        threshold: score from which GCNet's detections start tracks, in place of p1 (and of p2 where that is higher);
            None leaves both.
        image_model: exported GCNet, of fusion.
        filter: parameters of the fusion, as the launch files' `filter`.
        smooth: tracks of stack, pkf and fusion as they are known some time later; see `pkf_filter.filtering.smoothing`.
    """

    method: Method
    model: Path
    device: Device = "auto"
    device_id: int = 0
    precision: Precision = "auto"
    skip_broken: bool = False
    threshold: float | None = None
    image_model: Path | None = None
    filter: Path | None = None
    smooth: bool = False

    def suffix(self, sequence: Sequence) -> str:
        """Of the file with the tracks of a sequence."""
        return ".json" if self.method in SPATIAL and isinstance(sequence, NuScenesSequence) else ".txt"

    def settings(self) -> dict[str, str]:
        """What must be equal for two results to belong to one run. Raises DataError where there is no model."""
        smooth = {"smooth": "true"} if self.smooth else {}
        if self.method == "pkf":
            return {"method": self.method, **smooth}
        computed = {"device": self.device, "precision": self.precision}
        settings = {"method": self.method, "model": self.model.name, "model_sha256": _digest(self.model), **computed}
        settings |= smooth
        if self.image_model is not None:
            settings |= {"image_model": self.image_model.name, "image_model_sha256": _digest(self.image_model)}
        if self.filter is not None:
            settings |= {"filter": self.filter.name, "filter_sha256": _digest(self.filter)}
        return settings if self.threshold is None else settings | {"threshold": str(self.threshold)}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def demo_model(method: Method) -> Path:
    """The weights that come with this project for a method."""
    if method in ("time3d", "fusion"):
        from time3d_tracker.model import DEMO_MODEL

        return DEMO_MODEL
    from gcnet_tracker.tracker import DEMO_MODEL as GCNET

    return GCNET


class Engine:
    """Makes the tracks of one sequence after the other; the model is loaded once.

    Attributes:
        seconds: that the trackers took for each frame of the sequence so far, without reading it; of those that took no
            step there are none.
        skipped: what was wrong with each frame of the sequence that was left out.
        class_names: of the model, which class_ids of the tracks index; empty for PKF alone.

    Raises ModelError for a model that cannot be used.
    """

    def __init__(self, run: Run, threads: int = 0) -> None:
        self._run = run
        self._model: Any = None
        self._image_model: Any = None
        self.class_names: tuple[str, ...] = ()
        self.seconds: list[float] = []
        self.skipped: list[str] = []
        computed = run.device, threads, run.precision, run.device_id
        if run.method == "fusion":
            self._prepare_fusion(computed)
            return
        if run.method == "time3d":
            from time3d_tracker.model import Time3DModel

            self._model = Time3DModel(run.model, *computed)
        elif run.method != "pkf":
            from gcnet_tracker.tracker import GCNetModel

            self._model = GCNetModel(run.model, *computed)
        if self._model is not None:
            self.class_names = self._model.class_names
        if run.method in ("pkf", "stack"):
            from pkf_filter.ros.precompile import warm_up_in_image

            warm_up_in_image()

    def _prepare_fusion(self, computed: tuple[Device, int, Precision, int]) -> None:
        from camtrack.offline.fusion import class_names, fusion_parameters, takes_space
        from gcnet_tracker.tracker import GCNetModel
        from pkf_filter.ros.precompile import warm_up_in_space
        from time3d_tracker.model import Time3DModel

        assert self._run.image_model is not None and self._run.filter is not None
        self._parameters = fusion_parameters(self._run.filter)
        if takes_space(self._parameters):
            self._model = Time3DModel(self._run.model, *computed)
        self._image_model = GCNetModel(self._run.image_model, *computed)
        self.class_names = class_names(self._model, self._image_model)
        warm_up_in_space(self._parameters.world)

    def tracks(self, sequence: Sequence) -> Iterator[Tracks2D | SpatialTracks]:
        """The tracks after every frame, from trackers that know nothing yet; `seconds` grows with them.

        Frames that are left out have none. Smoothed tracks come some frames later.

        Raises:
            DataError: a frame is broken, for PKF alone the recording has no public detections, for Time3D no camera.
        """
        self.seconds, self.skipped = [], []
        if self._run.method == "pkf":
            yield from self._of_public_detections(sequence)
            return
        steps: dict[str, Callable[[Sequence], Callable[[Any], Any]]] = {
            "gcnet": self._gcnet, "stack": self._stack, "time3d": self._time3d,
            "ground": self._ground, "fusion": self._fusion, "detections": self._detections,
        }  # fmt: skip
        if self._run.smooth:
            step, rest = self._smoothed(sequence)
        else:
            immediate, rest = steps[self._run.method](sequence), list
            step = lambda item: [immediate(item)]  # noqa: E731
        waiting: deque[Any] = deque()
        yield from _flushed(self._of_frames(sequence, step, waiting), lambda: _in_order(waiting, rest()))

    def _of_frames(
        self, sequence: Sequence, step: Callable[[Any], list[Any]], waiting: deque[Any]
    ) -> Iterator[Tracks2D | SpatialTracks]:
        """What `step` finds in each frame, in order; `waiting` (see `_in_order`) are frames whose tracks come later."""
        for item in attempts_of(sequence) if self._run.skip_broken else sequence:
            started = time.perf_counter()
            if isinstance(item, DataError):
                self.skipped.append(str(item))
                waiting.append(_no_tracks(self._run.method))
                found = []
            else:
                waiting.append(None)
                found = step(item)
            self.seconds.append(time.perf_counter() - started)
            yield from _in_order(waiting, found)

    def _of_public_detections(self, sequence: Sequence) -> Iterator[Tracks2D]:
        """PKF's tracks; of frames in which nothing is seen and nothing followed, maybe millions, without a step."""
        from pkf_filter.image.smoothing import Smoother
        from pkf_filter.image.tracker import Tracker as Filter

        if not isinstance(sequence, MotChallengeSequence):
            raise DataError(f"{sequence.name}: expected a recording with public detections (det/det.txt), found none")
        pkf, nothing = Filter(), Tracks2D.empty()
        step: Callable[[int, Boxes2D], list[Tracks2D]] = lambda *frame: [pkf.step(*frame)]  # noqa: E731
        rest: Callable[[], list[Tracks2D]] = list
        followed: Callable[[], int] = lambda: len(pkf.tracks)  # noqa: E731
        if self._run.smooth:
            smoother = Smoother(pkf)
            step, rest, followed = smoother.step, smoother.flush, smoother.followed

        def tracks() -> Iterator[Tracks2D]:
            for index, found in enumerate(sequence.detections()):
                if not len(found) and not followed():
                    yield nothing
                    continue
                started = time.perf_counter()
                # some public detectors give margins
                boxes = Boxes2D(found.xyxy, np.clip(found.scores, 0, 1), found.class_ids)
                now = step(stamp_ns(index, sequence.frame_rate), boxes)
                self.seconds.append(time.perf_counter() - started)
                yield from now

        yield from _flushed(tracks(), rest)

    def _gcnet(self, sequence: Sequence) -> Callable[[Frame], Tracks2D]:
        from gcnet_tracker.config import TrackerConfig
        from gcnet_tracker.tracker import Tracker

        config = TrackerConfig()
        if self._run.threshold is not None:
            start = max(self._run.threshold, THRESHOLD_FLOOR)
            keep = min(start, config.keep_threshold)
            config = config.model_copy(update={"track_threshold": start, "keep_threshold": keep})
        tracker = Tracker(self._model, config)
        return lambda frame: tracker.step(frame.image)

    def _detections(self, _: Sequence) -> Callable[[Frame], Tracks2D]:
        from gcnet_tracker.tracker import Detector

        detector = Detector(self._model, THRESHOLD_FLOOR)

        def step(frame: Frame) -> Tracks2D:
            found = detector(frame.image)
            return Tracks2D(np.full(len(found), -1), found.xyxy, found.scores, found.class_ids)

        return step

    def _stack(self, sequence: Sequence) -> Callable[[Frame], Tracks2D]:
        from pkf_filter.image.tracker import Tracker as Filter

        gcnet, pkf = self._gcnet(sequence), Filter()

        def step(frame: Frame) -> Tracks2D:
            found = gcnet(frame)
            return pkf.step(frame.time_ns, Boxes2D(found.xyxy, found.scores, found.class_ids))

        return step

    def _smoothed(self, sequence: Sequence) -> tuple[Callable[[Any], list[Any]], Callable[[], list[Any]]]:
        """What becomes complete with an item, and with the end."""
        if self._run.method == "fusion":
            from camtrack.offline.fusion import SmoothedFusion

            fusion = SmoothedFusion(self._model, self._image_model, self._parameters)
            return fusion.step, fusion.flush
        from pkf_filter.image.smoothing import Smoother
        from pkf_filter.image.tracker import Tracker as Filter

        smoother = Smoother(Filter())
        gcnet = self._gcnet(sequence)

        def step(frame: Frame) -> list[Tracks2D]:
            found = gcnet(frame)
            return smoother.step(frame.time_ns, Boxes2D(found.xyxy, found.scores, found.class_ids))

        return step, smoother.flush

    def _time3d(self, sequence: Sequence) -> Callable[[Frame], SpatialTracks]:
        from time3d_tracker.level import camera_height
        from time3d_tracker.tracker import Tracker

        tracker = Tracker(self._model)

        def step(frame: Frame) -> SpatialTracks:
            intrinsics = frame.calibrated().intrinsics
            return tracker.step(frame.image, frame.time_ns, intrinsics, frame.camera_pose, camera_height(frame))

        return step

    def _ground(self, _: Sequence) -> Callable[[Frame], SpatialTracks]:
        from camtrack.offline.ground import GroundTracker

        return GroundTracker(self._model).step

    def _fusion(self, _: Sequence) -> Callable[[Frame], SpatialTracks]:
        from camtrack.offline.fusion import FusionTracker

        return FusionTracker(self._model, self._image_model, self._parameters).step

    # --- What is written

    def write(self, path: Path, sequence: Sequence, frames: list[Any]) -> None:
        """Writes what `tracks` gave: MOTChallenge text; of tracks in space a nuScenes submission or KITTI's text.

        Raises OSError.
        """
        if self._run.method not in SPATIAL:
            write_mot(path, frames)
            return
        names = self.class_names
        if isinstance(sequence, NuScenesSequence):
            keys = [(key, found) for key, found in zip(sequence.keys(), frames, strict=True) if key is not None]
            write_submission(path, {token: _submitted(found, pose, names) for (token, pose), found in keys})
            return
        mounting = sequence.mounting() if isinstance(sequence, kitti.KittiSequence) else None
        place = kitti.TO_VEHICLE if mounting is None else mounting
        if self._run.method == "fusion":
            frames = [_in_image(found) for found in frames]
        write_kitti(path, [(f.tracks, moved(f.tracks.boxes, place @ f.upright), f.xyxy) for f in frames], names)


def _no_tracks(method: Method) -> Tracks2D | SpatialTracks:
    """What a method has found in a frame that nobody could read."""
    if method not in SPATIAL:
        return Tracks2D.empty()
    from time3d_tracker.tracker import Result

    return Result.empty()


def _flushed(tracks: Iterator[Any], rest: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Tracks and then what is left of them, also where the recording breaks off, which its DataError says last."""
    try:
        yield from tracks
    except DataError:
        yield from rest()
        raise
    yield from rest()


def _in_order(waiting: deque[Any], found: list[Any]) -> Iterator[Any]:
    """The results of the oldest frames, as far as they are there; None in `waiting` stands for the next one found."""
    for one in found:
        while waiting[0] is not None:
            yield waiting.popleft()
        waiting.popleft()
        yield one
    while waiting and waiting[0] is not None:
        yield waiting.popleft()


def ids_of(frame: Tracks2D | SpatialTracks) -> list[int]:
    """Ids of the tracks in a frame, in the image or in space."""
    ids: list[int] = (frame if isinstance(frame, Tracks2D) else frame.tracks).ids.tolist()
    return ids


def moved(boxes: Boxes3D, pose: Pose) -> Boxes3D:
    """Boxes (up axis z) in the parent frame of a pose, where they stay upright."""
    flat = np.zeros(len(boxes))
    heading = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw), flat], 1) @ pose.rotation.T
    velocity = boxes.velocity @ pose.rotation.T
    return Boxes3D(pose.apply(boxes.centre), boxes.size, np.arctan2(heading[:, 1], heading[:, 0]), velocity)


def _in_image(found: SpatialTracks) -> SpatialTracks:
    """Without the tracks that the image does not show."""
    seen = area(found.xyxy) > 0
    return replace(found, tracks=found.tracks[seen], xyxy=found.xyxy[seen])


def _submitted(found: SpatialTracks, camera_pose: Pose, names: tuple[str, ...]) -> SubmittedBoxes:
    tracks = found.tracks
    own = [names[i] for i in tracks.class_ids]
    attributes = [ATTRIBUTES.get(name, VEHICLE)[k] for name, k in zip(own, tracks.motions.argmax(1), strict=True)]
    return SubmittedBoxes(
        moved(tracks.boxes, camera_pose @ found.upright),
        tracks.scores,
        np.array([SUBMITTED.get(name, name) for name in own], np.str_),
        tracks.ids.astype(np.str_),
        np.array(attributes, np.str_),
    )
