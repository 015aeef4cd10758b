"""Opening a recording by a short text, as commands and parameters give it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from camtrack_core.datasets import calibrated, motchallenge, nuscenes, pandaset, uadetrac, yolo
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.kitti import sequences as kitti
from camtrack_core.datasets.labelled import LabelledVideo
from camtrack_core.datasets.rosbag import bag as rosbag
from camtrack_core.datasets.video import VIDEO_SUFFIXES, FrameFolder, Video
from camtrack_core.errors import ConfigurationError, DataError

DRIVE = "drive:"
DEFAULT_CAMERA = "camera"  # what the only camera of a recording is called
EXPECTED = (
    "a video file, a folder of images, VIDEO:LABELS, a bag, a folder with a recording.json, a data set in its layout "
    "(UA-DETRAC, nuScenes, PandaSet, KITTI tracking and object, MOTChallenge, YOLO's text; one of its sequences as "
    "ROOT?sequence=NAME) or drive:SEED, with options like drive:7?frames=200&width=640&height=360&camera=roadside"
)
Options = dict[str, str]


@dataclass(frozen=True)
class Layout:
    """How a data set lies in a folder.

    Attributes:
        recognises: whether a folder or file is of this layout.
        sequences: the options that name each of its sequences.
        open: one sequence, by its options.
        options: names of all options.
    """

    recognises: Callable[[Path], bool]
    sequences: Callable[[Path], list[Options]]
    open: Callable[..., Sequence]
    options: tuple[str, ...]


def open_source(spec: str) -> Sequence:
    """The recording that `spec` names.

    Args:
        spec: a video file; VIDEO:LABELS; a folder of images; a bag; the folder of one sequence, or a data set and
            the name of one, as ROOT?sequence=NAME, for nuScenes ROOT?scene=NAME&camera=NAME&sweeps=true, for PandaSet
            ROOT?camera=NAME&frames=FIRST-LAST, for a recording of one's own FOLDER?camera=NAME; or
            drive:SEED[?option=value&...] for a generated drive, options as the fields of DriveConfig.

    Raises:
        DataError: nothing is there, it is broken, or it holds more than one sequence.
        ConfigurationError: a wrong seed or option.
    """
    if spec.startswith(DRIVE):
        seed, options = _split(spec.removeprefix(DRIVE), spec)
        return _open_drive(spec, seed, options)
    path, options = _split_path(spec)
    layout = _layout(path)
    if layout is None:
        return _open_plain(spec, path, options)
    _check_options(spec, options, layout.options)
    if options:
        return layout.open(path, **options)
    found = layout.sequences(path)
    if len(found) != 1:
        which = _some(found) or "?sequence=NAME"
        raise DataError(f"source {spec!r} holds {len(found)} sequences; add which, like {which}")
    return layout.open(path, **found[0])


def _some(sequences: list[dict[str, str]]) -> str:
    """The options that name the first few."""
    return ", ".join(f"?{urlencode(options)}" for options in sequences[:5])


def list_sources(spec: str) -> list[str]:
    """One text for open_source for each sequence that `spec` names: all of a data set, or itself alone.

    Raises DataError, ConfigurationError as open_source does.
    """
    if spec.startswith(DRIVE):
        seeds, options = _split(spec.removeprefix(DRIVE), spec)
        query = f"?{urlencode(options)}" if options else ""
        drives = [f"{DRIVE}{seed}{query}" for seed in _seed_range(spec, seeds)]
        return [source for drive in drives for source in _rig_sources(drive).values()]
    path, options = _split_path(spec)
    layout = _layout(path)
    if layout is None:
        return [spec]
    _check_options(spec, options, layout.options)
    split = options.pop("split", "") if layout is NUSCENES else ""
    scenes = nuscenes.split_scenes(nuscenes.find_version(path, options.get("version", "")), split) if split else set()
    found = layout.sequences(path)
    selected = [one for one in found if _agree(one, options) and (not split or one["scene"] in scenes)]
    if not selected:
        raise DataError(f"source {spec!r} holds no such sequence; it holds {_some(found) or 'none'}")
    return [f"{path}?{urlencode(merged)}" if (merged := {**one, **options}) else str(path) for one in selected]


def canonical(spec: str) -> str:
    """The text of a recording that does not depend on the folder or the order of options that it was named by.

    Raises ConfigurationError where the options of a drive are no options.
    """
    if spec.startswith(DRIVE):
        text, options = _split(spec, spec)
        return _with_options(text, options)
    path, options = _split_path(spec)
    video, separator, labels = spec.rpartition(":")
    if separator and not path.exists():
        return f"{Path(video).expanduser().resolve()}:{Path(labels).expanduser().resolve()}"
    return _with_options(str(path.resolve()), options)


def files_of(spec: str) -> list[Path]:
    """The files and folders that `spec` names, links followed; none of a generated drive."""
    if spec.startswith(DRIVE):
        return []
    path, _ = _split_path(spec)
    video, separator, labels = spec.rpartition(":")
    parts = [Path(video), Path(labels)] if separator and not path.exists() else [path]
    return [part.expanduser().resolve() for part in parts]


def _with_options(text: str, options: Options) -> str:
    return f"{text}?{urlencode(sorted(options.items()))}" if options else text


def open_cameras(spec: str) -> dict[str, Sequence]:
    """The cameras of one recording by name.

    Of nuScenes, PandaSet and calibrated recordings all unless `spec` names one, of a bag all topics of images, of a
    drive six with ?cameras=6, and of everything else the only one.

    Raises DataError, ConfigurationError as open_source does.
    """
    if spec.startswith(DRIVE):
        return _open_rig(spec)
    path, options = _split_path(spec)
    layout = _layout(path)
    if layout is BAG and not options:
        return _open_topics(path)
    if layout in (PANDASET, CALIBRATED) and "camera" not in options:
        return {_split_path(source)[1]["camera"]: open_source(source) for source in list_sources(spec)}
    if layout is not NUSCENES or "camera" in options:
        return {DEFAULT_CAMERA: open_source(spec)}
    sources = [open_source(source) for source in list_sources(spec)]
    scenes = {source.name.partition("-CAM")[0] for source in sources}
    if len(scenes) > 1:
        raise DataError(f"source {spec!r} holds {len(scenes)} scenes; add which, like ?scene={min(scenes)}")
    return {source.camera_name.lower(): source for source in sources}  # type: ignore[attr-defined]


def open_labelled(specs: Iterable[str]) -> Iterator[Sequence]:
    """Labelled recordings one after the other, each opened when its turn comes.

    Args:
        specs: as for open_source, or a range of drives, drive:FIRST-LAST, with the same options.

    Raises:
        DataError, ConfigurationError: as open_source does, and for a recording that cannot have labels.
    """
    for spec in specs:
        for source in list_sources(spec):
            path, _ = _split_path(source)
            if not source.startswith(DRIVE) and _layout(path) is None and _is_unlabelled(path, source):
                raise DataError(f"source {spec!r}: expected VIDEO:LABELS, a data set with labels or drive:SEED")
            sequence = open_source(source)
            if not sequence.class_names:
                raise DataError(f"source {spec!r} has no labels")
            yield sequence


# ------------------------------------------------------------------------------------------------- layouts


def _open_nuscenes(path: Path, sweeps: str = "false", split: str = "", **options: str) -> Sequence:
    if split:
        raise ConfigurationError(f"{path}: split={split} may hold many scenes; expected one, as scene=NAME")
    if sweeps not in ("true", "false"):
        raise ConfigurationError(f"{path}: expected sweeps=true or sweeps=false, got sweeps={sweeps}")
    return nuscenes.NuScenesSequence(path, sweeps=sweeps == "true", **options)


def _is_uadetrac_sequence(path: Path) -> bool:
    return path.name.startswith("MVI_") and path.parent.name in uadetrac.PARTS


def _is_kitti_sequence(path: Path) -> bool:
    return path.parent.name == "image_02" and path.is_dir()


def _by_name(names: list[str]) -> list[Options]:
    return [{"sequence": name} for name in names]


NUSCENES = Layout(
    lambda path: any(path.glob("v1.0-*/scene.json")) or any(path.glob("v1.0-*/sample.json")),
    lambda path: [{"scene": scene, "camera": camera} for scene, camera in nuscenes.list_sequences(path)],
    _open_nuscenes,
    ("scene", "camera", "sweeps", "version", "split"),
)
PANDASET = Layout(
    pandaset.is_pandaset,
    lambda path: [{"camera": camera} for camera in pandaset.list_cameras(path)],
    lambda path, camera="", **options: pandaset.PandaSetSequence(path, camera, **options),
    ("camera", "frames"),
)
CALIBRATED = Layout(
    calibrated.is_recording,
    lambda path: [{"camera": camera} for camera in calibrated.list_cameras(path)],
    lambda path, camera: calibrated.CalibratedSequence(path, camera),
    ("camera",),
)
BAG = Layout(
    rosbag.is_bag,
    lambda path: [{}],
    lambda path, **options: rosbag.BagSequence(path, **options),
    ("topic", "rectified"),
)
LAYOUTS = (
    NUSCENES,
    Layout(
        lambda path: path.name in uadetrac.PARTS and any(path.glob("MVI_*")),
        lambda path: _by_name(sorted(folder.name for folder in path.glob("MVI_*"))),
        lambda path, sequence: uadetrac.UaDetracSequence(path.parent, sequence),
        ("sequence",),
    ),
    Layout(
        _is_uadetrac_sequence,
        lambda path: [{}],
        lambda path: uadetrac.UaDetracSequence(path.parent.parent, path.name),
        (),
    ),
    Layout(
        lambda path: any((path / part).is_dir() for part in (*uadetrac.PARTS, *uadetrac.PARTS.values())),
        lambda path: _by_name(uadetrac.list_sequences(path)),
        lambda path, sequence: uadetrac.UaDetracSequence(path, sequence),
        ("sequence",),
    ),
    Layout(_is_kitti_sequence, lambda path: [{}], lambda path: kitti.KittiSequence(path.parent.parent, path.name), ()),
    Layout(
        lambda path: any((path / part).is_dir() for part in ("label_02", "image_02")),
        lambda path: _by_name(kitti.list_sequences(path)),
        lambda path, sequence: kitti.KittiSequence(path, sequence),
        ("sequence",),
    ),
    Layout(
        lambda path: bool(kitti.list_parts(path)),
        lambda path: _by_name(kitti.list_parts(path)),
        lambda path, sequence: kitti.KittiImages(path, sequence),
        ("sequence",),
    ),
    PANDASET,
    Layout(yolo.is_yolo, lambda path: [{}], lambda path, **o: yolo.YoloFolder(path, **o), ("aspect", "name")),
    CALIBRATED,
    BAG,
    Layout(motchallenge.is_sequence, lambda path: [{}], lambda path: motchallenge.MotChallengeSequence(path), ()),
    Layout(
        lambda path: path.is_dir() and bool(motchallenge.list_sequences(path)),
        lambda path: _by_name(motchallenge.list_sequences(path)),
        lambda path, sequence: motchallenge.MotChallengeSequence(path / sequence),
        ("sequence",),
    ),
)


def _layout(path: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognises(path)), None)


def _agree(one: Options, options: Options) -> bool:
    return all(one.get(name, value) == value for name, value in options.items())


def _open_plain(spec: str, path: Path, options: Options) -> Sequence:
    """A video, with or without labels, or a folder of images."""
    if path.exists():
        _check_options(spec, options, ())
        return _open_folder(spec, path) if path.is_dir() else Video(path)
    video, separator, labels = spec.rpartition(":")
    if separator and Path(video).expanduser().is_file():
        return LabelledVideo(Path(video).expanduser(), Path(labels).expanduser())
    hint = "" if path.suffix.lower() in VIDEO_SUFFIXES else f"; expected {EXPECTED}"
    raise DataError(f"source {spec!r} does not exist{hint}")


def _open_folder(spec: str, path: Path) -> Sequence:
    """A folder of images; where it holds data sets or parts of one, like train and test, the error names them."""
    try:
        return FrameFolder(path)
    except DataError as error:
        parts = [str(part) for part in sorted(path.iterdir()) if part.is_dir() and _layout(part)]
        if not parts:
            raise
        some = ", ".join(parts[:5])
        raise DataError(f"source {spec!r} holds several data sets or parts of one; give one of {some}") from error


# --------------------------------------------------------------------------------------------------- texts


def _split_path(spec: str) -> tuple[Path, Options]:
    """Path and options of PATH?option=value&...; a path may hold a question mark itself."""
    whole = Path(spec).expanduser()
    if whole.exists() or "?" not in spec:
        return whole.resolve() if whole.is_dir() else whole, {}
    text, options = _split(spec, spec)
    path = Path(text).expanduser()
    return path.resolve() if path.is_dir() else path, options


def _is_unlabelled(path: Path, spec: str) -> bool:
    """Whether a text without a layout names a video alone, or nothing that could be VIDEO:LABELS."""
    return path.is_file() or (not path.is_dir() and ":" not in spec)


def _split(text: str, spec: str) -> tuple[str, Options]:
    """What stands before the last question mark, and the options behind it, which hold none: there it is %3F."""
    before, separator, query = text.rpartition("?")
    if not separator:
        return text, {}
    try:
        return before, dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise ConfigurationError(f"source {spec!r}: expected options as name=value&..., got {query!r}") from error


def _check_options(spec: str, options: Options, known: tuple[str, ...]) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        expected = f"the options {', '.join(known)}" if known else "no options"
        raise ConfigurationError(f"source {spec!r}: expected {expected}, got {unknown[0]}={options[unknown[0]]}")


def _open_drive(spec: str, seed: str, options: Options) -> Sequence:
    from pydantic import ValidationError

    from camtrack_core.datasets.drive import Drive, DriveConfig

    try:
        return Drive(DriveConfig.model_validate({"seed": seed, **options}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"source {spec!r}: {name}: {first['msg']}, got {first['input']!r}") from error


def _open_rig(spec: str) -> dict[str, Sequence]:
    """The cameras of a drive: the only one, or with ?cameras=6 those that see all around the vehicle."""
    return {name: open_source(source) for name, source in _rig_sources(spec).items()}


def _rig_sources(spec: str) -> dict[str, str]:
    """The text for `open_source` of each camera of a drive."""
    text, options = _split(spec, spec)
    cameras = options.pop("cameras", "1")
    if cameras == "1":
        return {DEFAULT_CAMERA: f"{text}?{urlencode(options)}" if options else text}
    from camtrack_core.datasets.drive import RIG, RIG_FIELD_OF_VIEW

    if cameras != str(len(RIG)):
        raise ConfigurationError(f"source {spec!r}: expected cameras=1 or cameras={len(RIG)}, got cameras={cameras}")
    common = {"field_of_view": str(RIG_FIELD_OF_VIEW), **options, "camera": "vehicle"}
    return {name: f"{text}?{urlencode({**common, 'view': str(view)})}" for name, view in RIG.items()}


def _open_topics(path: Path) -> dict[str, Sequence]:
    """The cameras of a bag: by the namespace of each topic of images, or the only one."""
    topics = rosbag.image_topics(path)
    if len(topics) <= 1:
        return {DEFAULT_CAMERA: rosbag.BagSequence(path)}
    names = {topic: rosbag.namespace_of(topic).strip("/").replace("/", "_") or DEFAULT_CAMERA for topic in topics}
    if len(set(names.values())) < len(topics):
        raise DataError(f"bag {path}: expected one topic of images in a namespace, got {', '.join(topics)}")
    return {name: rosbag.BagSequence(path, topic) for topic, name in names.items()}


def _seed_range(spec: str, seeds: str) -> list[str]:
    """The seeds of "7" or "7-12", the last included."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", seeds)
    if not match:
        raise ConfigurationError(f"source {spec!r}: expected a seed or a range FIRST-LAST, got {seeds!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    return [str(seed) for seed in range(first, last + 1)]
