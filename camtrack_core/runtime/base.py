"""What every inference session is, whatever runs it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import CamtrackError, ModelError

Device = Literal["auto", "tensorrt", "cuda", "onnxruntime_tensorrt", "openvino", "onnxruntime"]
AUTO: tuple[Device, ...] = ("tensorrt", "cuda", "openvino", "onnxruntime")
Precision = Literal["auto", "f32", "bf16", "f16"]
MOST_SIZE = 4096  # of an input in any direction
MOST_FRAMES = 8  # at a time, of a graph that takes any number


class Stored(Protocol):
    """A float32 array where a session computes: what one frame says and a later one is told, unread by the host.

    numpy's own on a CPU. Indices are integers and whole slices, values are 0, numpy's arrays or others of this kind:

        queries[:] = out["track_queries"][0]
        queries[:, 5] = out["new_queries"][0][:, 2]
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def copy(self) -> Any: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __setitem__(self, index: Any, value: Any, /) -> None: ...


Input = NDArray | Sequence[Stored]  # an array, or its parts one after the other


class Session(Protocol):
    """A compiled graph.

    Attributes:
        engine: what runs it, for diagnostics.
        notice: what a user should know of it now, a sentence, or None.
        metadata: the graph's string metadata.
        input_shapes: by input name; -1 for the number of frames where the graph takes any.
        output_names: in the graph's order.
    """

    @property
    def engine(self) -> str: ...

    @property
    def notice(self) -> str | None: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def store(self, shape: tuple[int, ...]) -> Stored:
        """A new array of zeros where the session computes."""

    def run(self, inputs: Mapping[str, Input]) -> dict[str, Any]:
        """Outputs by name: numpy's arrays, but for the resident ones, which are `Stored`.

        They may share memory with the session and live until the next run.
        """


def joined(inputs: Mapping[str, Input], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray]:
    """The inputs in one array each, for sessions that compute in the host's memory."""

    def whole(name: str, given: Input) -> NDArray:
        if isinstance(given, np.ndarray):
            return given
        return np.stack([np.asarray(part) for part in given]).reshape(-1, *shapes[name][1:])

    return {name: whole(name, given) for name, given in inputs.items()}


def expect_names(path: Path, session: Session, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raises ModelError for a graph that does not take exactly these inputs or lacks one of these outputs."""
    given, made = session.input_shapes.keys(), session.output_names
    lacking = [name for name in outputs if name not in made]
    if given != set(inputs):
        raise ModelError(f"{path}: expected the inputs {', '.join(inputs)}, its graph has {', '.join(given)}")
    if lacking:
        raise ModelError(f"{path}: expected the outputs {', '.join(outputs)}, its graph lacks {', '.join(lacking)}")


def expect_sizes(path: Path, session: Session, sizes: Mapping[str, tuple[str | int, ...]]) -> None:
    """Raises ModelError for a graph whose inputs have other sizes.

    Args:
        sizes: of some inputs, by name; a text stands for any fixed size up to MOST_SIZE, in the first place, of the
            frames, for a free one as well.
    """
    for name, wanted in sizes.items():
        given = session.input_shapes[name]
        if len(given) != len(wanted) or not all(map(_is_size, given, wanted, range(len(wanted)))):
            expected, got = ("x".join(map(str, shape)) for shape in (wanted, given))
            raise ModelError(f"{path}: expected an input {name} of {expected}, its graph takes {got}")


def _is_size(given: int, wanted: str | int, place: int) -> bool:
    if isinstance(wanted, int):
        return given == wanted
    return 0 < given <= MOST_SIZE or (place == 0 and given == -1)


def stated_names(path: Path, session: Session, key: str) -> tuple[str, ...]:
    """The list of names that a graph's metadata states. Raises ModelError where it states anything else."""
    said = session.metadata.get(key, "")
    try:
        names = json.loads(said)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: expected a list of names as {key}, it states {said[:100]!r}")
    return tuple(names)


@contextmanager
def answering(path: Path) -> Iterator[None]:
    """Running a graph and reading its answer. Raises ModelError where the graph fails or answers something else."""
    try:
        yield
    except CamtrackError:
        raise
    except Exception as error:  # the libraries raise many types, none of them documented
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: expected the answer of an exported graph, got: {said}") from error


def expect_answer(answer: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError for outputs of other shapes."""
    for name, shape in shapes.items():
        if tuple(answer[name].shape) != shape:
            expected, got = ("x".join(map(str, sizes)) for sizes in (shape, answer[name].shape))
            raise ValueError(f"{name} of {got} in place of {expected}")


def expect_classes(class_ids: NDArray, names: Collection[str]) -> None:
    """Raises ValueError for numbers that are none of so many classes'."""
    if not ((class_ids >= 0) & (class_ids < len(names))).all():
        raise ValueError(f"class_ids of {np.min(class_ids)} to {np.max(class_ids)} for {len(names)} classes")
