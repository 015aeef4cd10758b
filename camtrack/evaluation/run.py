"""`camtrack evaluate`: predictions against the truth of a data set, by the protocol of that data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camtrack_core.datasets.frames import Sequence, Truth, truth_of
from camtrack_core.datasets.kitti.rows import read_objects
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.motchallenge import MotChallengeSequence, class_number, describe
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.datasets.uadetrac import UaDetracSequence
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.evaluation import motchallenge, uadetrac_pr
from camtrack_core.evaluation.detection import ImageTruth, judge
from camtrack_core.evaluation.kitti import kitti2d
from camtrack_core.evaluation.kitti.kitti3d import UNROUNDED, Scores3D, check_kind, score_tracks_3d
from camtrack_core.evaluation.mot_text import read_mot
from camtrack_core.evaluation.tracking import EvaluationFrame, TrackingScores, evaluation_frame, score_each
from camtrack_core.geometry.boxes import Boxes2D, Floats
from camtrack_core.geometry.tracks import Tracks2D

ALL = "all"
KITTI_KIND = "Car"


@dataclass(frozen=True)
class Rules:
    """What counts, beside what the data set's own protocol says.

    Attributes:
        kind: the class, on KITTI and MOTChallenge; where empty, cars on KITTI and pedestrians on MOTChallenge.
        min_height: pixels; lower objects are neither hit nor miss.
        min_visible: share; more hidden objects are neither hit nor miss.
    """

    kind: str = ""
    min_height: float = 0.0
    min_visible: float = 0.0

    @property
    def kitti_kind(self) -> str:
        return self.kind.capitalize() or KITTI_KIND


@dataclass(frozen=True)
class Evaluation:
    """Scores of tracks.

    Attributes:
        combined: over all sequences; sequences: of each.
        spatial: of tracks in space, on KITTI, where the predictions have boxes in space, to the authors' last digit.
        unrounded: the same without the rounding by which tracks drop out of the authors' evaluation.
        in_image: whether the predictions have boxes in the image; without, their scores there say nothing.
    """

    combined: TrackingScores
    sequences: dict[str, TrackingScores]
    spatial: Scores3D | None = None
    unrounded: Scores3D | None = None
    in_image: bool = True


def evaluate_tracks(predictions: Path, truth: list[str], rules: Rules) -> Evaluation:
    """Scores of tracks.

    Args:
        predictions: a text file, or a folder of NAME.txt for each sequence; MOTChallenge text, on KITTI its own too.
        truth: sources or data sets.
        rules: what counts.

    Raises:
        DataError: predictions are missing or broken, or the truth has no labels.
        ConfigurationError: the data set has no class that is called so.
    """
    return score_loaded(load_tracks(predictions, truth, rules), rules)


@dataclass(frozen=True)
class LoadedTracks:
    """The tracks of a sequence beside its truth.

    Attributes:
        sequence: the recording; file: the text with its tracks.
        truth: of every labelled frame; frames: the same as they are scored.
        min_track_height: unmatched tracks up to this height in pixels do not count.
    """

    sequence: Sequence
    file: Path
    truth: list[Truth]
    frames: list[EvaluationFrame]
    min_track_height: float


def load_tracks(predictions: Path, truth: list[str], rules: Rules) -> list[LoadedTracks]:
    """Reads what is to be scored; arguments and errors as evaluate_tracks has them."""
    sequences = [_of_kind(sequence, rules) for sequence in sequences_of(truth)]
    files = [find_predictions(predictions, s.name, len(sequences)) for s in sequences]
    return [_load(sequence, file, rules) for sequence, file in zip(sequences, files, strict=True)]


def _of_kind(sequence: Sequence, rules: Rules) -> Sequence:
    """The sequence whose truth says what is to be found. Raises ConfigurationError for a class that it cannot have."""
    if isinstance(sequence, KittiSequence):
        check_kind(rules.kitti_kind)
        return sequence
    if not rules.kind:
        return sequence
    if isinstance(sequence, MotChallengeSequence):
        return sequence.of_kind(class_number(rules.kind))
    raise ConfigurationError(f"--kind applies to KITTI and MOTChallenge; of {sequence.name} all classes are scored")


def score_loaded(loaded: list[LoadedTracks], rules: Rules) -> Evaluation:
    """Raises DataError where an id occurs twice in a frame, or the truth has objects of which none counts."""
    labelled = any(truth.labels is not None and len(truth.labels) for one in loaded for truth in one.truth)
    if labelled and not any(frame.truth.scored.any() for one in loaded for frame in one.frames):
        raise DataError(_nothing_counts(loaded, rules))
    frames = {one.sequence.name: one.frames for one in loaded}
    combined, each = score_each(frames, loaded[0].min_track_height)
    kitti = all(isinstance(one.sequence, KittiSequence) for one in loaded)
    files = {one.sequence.name: one.file for one in loaded}
    spatial, unrounded = _spatial([one.sequence for one in loaded], files, rules) if kitti else (None, None)
    return Evaluation(combined, each, spatial, unrounded, spatial is None or _have_boxes(loaded))


def _have_boxes(loaded: list[LoadedTracks]) -> bool:
    """Whether any track has a box in the image: trackers in space leave it out as -1 -1 -1 -1, or zeros."""
    boxes = np.concatenate([frame.tracks.xyxy for one in loaded for frame in one.frames] or [np.zeros((0, 4))])
    return not len(boxes) or bool((boxes[:, 2:] > boxes[:, :2]).any())


def _nothing_counts(loaded: list[LoadedTracks], rules: Rules) -> str:
    """What the truth has where none of it is to be scored."""
    kinds: set[str] = set()
    asked = "an object that its data set's rules count"
    for sequence in (one.sequence for one in loaded):
        if isinstance(sequence, KittiSequence) and sequence.objects is not None:
            asked, kinds = f"objects of {rules.kitti_kind}", kinds | set(sequence.objects.kinds.tolist())
        elif isinstance(sequence, MotChallengeSequence):
            asked, kinds = f"objects of {describe(sequence.kind)}", kinds | set(sequence.kinds())
        else:
            kinds |= set(sequence.class_names)
    return f"expected {asked} to score against, found none; the truth has {', '.join(sorted(kinds)) or 'no objects'}"


def sequences_of(truth: list[str]) -> Iterator[Sequence]:
    """Raises DataError where one has no labels, or the name of another, since predictions are found by names."""
    names: dict[str, str] = {}
    for source in (source for spec in truth for source in list_sources(spec)):
        sequence = open_source(source)
        if not sequence.class_names or (isinstance(sequence, KittiSequence) and sequence.objects is None):
            raise DataError(f"source {source!r} has no labels to score against")
        if sequence.name in names:
            raise DataError(f"the sources {names[sequence.name]!r} and {source!r} are both called {sequence.name}")
        names[sequence.name] = source
        yield sequence


def find_predictions(predictions: Path, name: str, count: int) -> Path:
    """The text of a sequence. Raises DataError where there is none."""
    path = predictions / f"{name}.txt" if predictions.is_dir() else predictions
    if not path.is_file():
        raise DataError(f"expected predictions for {name} in {path}, found none")
    if count > 1 and path == predictions:
        raise DataError(f"{predictions} is one file; expected a folder with a text for each of the {count} sequences")
    return path


def _load(sequence: Sequence, path: Path, rules: Rules) -> LoadedTracks:
    if isinstance(sequence, KittiSequence):
        assert sequence.objects is not None
        tracks = _kitti_tracks(path, len(sequence), rules.kitti_kind)
        frames = kitti2d.evaluation_frames(sequence.objects, tracks, rules.kitti_kind)
        return LoadedTracks(sequence, path, list(sequence.truth()), frames, kitti2d.MIN_TRACK_HEIGHT)
    tracks = read_mot(path, len(sequence)) if _is_mot_text(path) else _kitti_tracks(path, len(sequence), "")
    pairs = [(t, found) for t, found in _with_truth(sequence, tracks) if t.labels is not None]
    if not pairs:
        raise DataError(f"{sequence.name} has no labelled frames to score against")
    if isinstance(sequence, MotChallengeSequence):
        frames = [motchallenge.evaluation_frame(t, found) for t, found in pairs]
    else:
        frames = [evaluation_frame(t, found, rules.min_height, rules.min_visible) for t, found in pairs]
    return LoadedTracks(sequence, path, [t for t, _ in pairs], frames, rules.min_height)


def _is_mot_text(path: Path) -> bool:
    """MOTChallenge text has commas, KITTI's has none; a text without tracks is of any form."""
    with open(path, errors="replace") as file:
        line = file.readline()
    return "," in line or not line.strip()


def _kitti_tracks(path: Path, count: int, kind: str) -> list[Tracks2D]:
    """The boxes in the image of one class, or of all where `kind` is empty."""
    if _is_mot_text(path):
        return read_mot(path, count)
    results = read_objects(path)
    if results.frames.max(initial=0) >= count or results.frames.min(initial=0) < 0:
        wrong = results.frames.max(initial=0)
        raise DataError(f"{path}: expected frames from 0 to {count - 1}, got frame {wrong}")
    boxes = results.boxes
    if not all(np.isfinite(values).all() for values in (results.xyxy, boxes.centre, boxes.size, boxes.yaw)):
        raise DataError(f"{path}: expected finite boxes")
    return kitti2d.tracks_of(results, kind, count)


def _spatial(
    sequences: list[Sequence], files: Mapping[str, Path], rules: Rules
) -> tuple[Scores3D, Scores3D] | tuple[None, None]:
    """Scores in space, the authors' and unrounded, where every sequence has KITTI text with scores and such boxes."""
    if any(_is_mot_text(path) for path in files.values()):
        return None, None
    results = {name: read_objects(path) for name, path in files.items()}
    flat = any((r.boxes.size <= 0).any() or not np.isfinite(r.scores).all() for r in results.values())
    if flat or not sum(map(len, results.values())):
        return None, None
    truth = {s.name: s.objects for s in sequences if isinstance(s, KittiSequence) and s.objects is not None}
    kind = rules.kitti_kind
    return score_tracks_3d(truth, results, kind), score_tracks_3d(truth, results, kind, slack=UNROUNDED)


# ---------------------------------------------------------------------------------------------- detections


def evaluate_detections(
    predictions: Path, truth: list[str], iou: float, splits: Mapping[str, set[str]]
) -> dict[str, tuple[float, int]]:
    """Average precision and number of objects of all sequences, by weather where it is annotated, and of splits.

    Args:
        predictions: as for evaluate_tracks; ids are not looked at.
        truth: sources or data sets.
        iou: least IoU of a hit.
        splits: names of the sequences of each.

    Raises:
        DataError: as for evaluate_tracks.
    """
    groups: dict[str, list[tuple[Floats, Floats, int]]] = {}
    sequences = list(sequences_of(truth))
    for sequence in sequences:
        found = read_mot(find_predictions(predictions, sequence.name, len(sequences)), len(sequence))
        judged = _judge(*_labelled(sequence, found), iou)
        weather = sequence.weather if isinstance(sequence, UaDetracSequence) else ""
        names = [
            ALL,
            *([weather] if weather else []),
            *(n for n, members in splits.items() if sequence.name in members),
        ]
        for name in names:
            groups.setdefault(name, []).append(judged)
    return {
        name: (uadetrac_pr.area(_curve(parts)), sum(count for *_, count in parts)) for name, parts in groups.items()
    }


def detection_curve(loaded: list[LoadedTracks], iou: float) -> uadetrac_pr.Curve | None:
    """Precision and recall of all boxes, whose scores order them; None on KITTI, whose texts may have none."""
    if any(isinstance(one.sequence, KittiSequence) for one in loaded):
        return None
    images = [[_as_image(frame) for frame in one.frames] for one in loaded]
    boxes = [[Boxes2D(f.tracks.xyxy, f.tracks.scores, f.tracks.class_ids) for f in one.frames] for one in loaded]
    return _curve([_judge(i, b, iou) for i, b in zip(images, boxes, strict=True)])


def _as_image(frame: EvaluationFrame) -> ImageTruth:
    """Objects that are not scored are ignored regions."""
    scored, others = frame.truth[frame.truth.scored], frame.truth[~frame.truth.scored]
    return ImageTruth(scored.xyxy, scored.class_ids, np.concatenate([frame.ignored, others.xyxy]))


def read_splits(specs: list[str]) -> dict[str, set[str]]:
    """NAME=FILE texts: a file lists sequences, one a line. Raises DataError."""
    splits = {}
    for spec in specs:
        name, separator, file = spec.partition("=")
        if not separator:
            raise DataError(f"--split: expected NAME=FILE, got {spec}")
        try:
            splits[name] = set(Path(file).read_text(encoding="utf-8-sig").split())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"--split: cannot read {file}: {error}") from error
    return splits


def _with_truth(sequence: Sequence, found: list[Tracks2D]) -> Iterator[tuple[Truth, Tracks2D]]:
    """Each frame's truth with what was found there; of MOTChallenge, whose texts may name any frame, without those that
    have neither: they change no score.

    Raises DataError where the recording holds back some frames.
    """
    if isinstance(sequence, MotChallengeSequence):
        tracked = {number for number, tracks in enumerate(found, start=1) if len(tracks)}
        occupied = sorted(sequence.labelled_frames() | tracked)
        return ((sequence.truth_at(number), found[number - 1]) for number in occupied)
    truth = list(truth_of(sequence))
    if len(truth) != len(found):
        raise DataError(f"{sequence.name}: expected the {len(found)} frames that it announces, got {len(truth)}")
    return zip(truth, found, strict=True)


def _labelled(sequence: Sequence, found: list[Tracks2D]) -> tuple[list[ImageTruth], list[Boxes2D]]:
    """Truth and detections of the frames that have labels."""
    images, boxes = [], []
    for truth, one in _with_truth(sequence, found):
        if truth.labels is not None:
            images.append(ImageTruth(truth.labels.xyxy, truth.labels.class_ids, truth.ignored))
            boxes.append(Boxes2D(one.xyxy, one.scores, one.class_ids))
    return images, boxes


def _judge(images: list[ImageTruth], boxes: list[Boxes2D], iou: float) -> tuple[Floats, Floats, int]:
    """Scores of the detections that count, whether each is a hit, and the number of objects."""
    judged = [judge(image, found, iou) for image, found in zip(images, boxes, strict=True)]
    scores = np.concatenate([np.zeros(0), *(score for score, _ in judged)])
    hits = np.concatenate([np.zeros(0, bool), *(hit for _, hit in judged)])
    return scores, hits, sum(len(image.xyxy) for image in images)


def _curve(parts: list[tuple[Floats, Floats, int]]) -> uadetrac_pr.Curve:
    """Precision and recall at every score, from none to all detections."""
    scores, hits = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    count = sum(part[2] for part in parts)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True) if len(scores) else np.zeros(0, bool)
    found = np.cumsum(hits[order])[last]
    recall, precision = found / max(count, 1), found / (np.flatnonzero(last) + 1)
    return uadetrac_pr.Curve(np.append(0.0, recall), np.append(precision[:1] if len(precision) else [0.0], precision))


# ------------------------------------------------------------------------------------- along the PR curve


def evaluate_along(predictions: Path, truth: list[str], curve: Path, rules: Rules) -> dict[str, float]:
    """UA-DETRAC's PR scores of tracks at the thresholds of a detector.

    Args:
        predictions: a folder of folders named by their thresholds, like 0.0, 0.1 to 1.0, each as for evaluate_tracks.
        truth: sources or data sets.
        curve: recall and precision of the detector at these thresholds, a line each; or a folder of its detections.
        rules: what counts.

    Raises:
        DataError: a threshold's folder is missing, or as for evaluate_tracks.
    """
    folders = sorted(
        (p for p in predictions.glob("*") if p.is_dir() and _is_number(p.name)), key=lambda p: float(p.name)
    )
    if curve.is_dir():
        points = curve_at(curve, truth, [float(folder.name) for folder in folders])
    else:
        points = uadetrac_pr.read_curve(curve)
    if len(folders) != len(points.recall):
        found = ", ".join(p.name for p in folders) or "none"
        raise DataError(f"{predictions}: expected {len(points.recall)} folders named by thresholds, found {found}")
    rows = [uadetrac_pr.row(evaluate_tracks(folder, truth, rules).combined) for folder in folders]
    values = uadetrac_pr.integrate(points, rows)
    return {f"PR-{name}": float(value) for name, value in zip(uadetrac_pr.COLUMNS, values, strict=True)}


def curve_at(detections: Path, truth: list[str], thresholds: list[float]) -> uadetrac_pr.Curve:
    """Recall and precision of the detections at least as sure as each of rising thresholds, by UA-DETRAC's IoU.

    Where there are none, the recall is 0 and the precision that of the last threshold at which there were some.

    Raises DataError as evaluate_detections does.
    """
    sequences = list(sequences_of(truth))
    files = [find_predictions(detections, s.name, len(sequences)) for s in sequences]
    read = [(s, read_mot(file, len(s))) for s, file in zip(sequences, files, strict=True)]
    parts = [_judge(*_labelled(sequence, found), uadetrac_pr.LEAST_IOU) for sequence, found in read]
    scores, hits = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    count = sum(part[2] for part in parts)
    recall, precision = [], [0.0]
    for threshold in thresholds:
        kept = scores >= threshold
        recall.append(float(hits[kept].sum()) / max(count, 1))
        precision.append(float(hits[kept].mean()) if kept.any() else precision[-1])
    return uadetrac_pr.Curve(np.array(recall), np.array(precision[1:]))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
