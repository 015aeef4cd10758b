"""Weights out of files: names and tensors, never pickled code, or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from camtrack_core.errors import ModelError

M = TypeVar("M", bound=nn.Module)


def read_torch(path: Path, expected: str, device: torch.device | str = "cpu") -> Any:
    """What a file of torch holds; no code of it runs. Raises ModelError for another kind of file.

    Args:
        expected: what the file should be, for the sentence.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # of broken files torch raises what its unpickling happens to: a dozen kinds
        raise ModelError(f"{path}: expected {expected}, got {type(error).__name__}: {error}") from error


def tensors(path: Path, state: Any, expected: str) -> dict[str, Tensor]:
    """Names and tensors of a file's content. Raises ModelError for anything else.

    Also for a tensor that claims to be larger than what is stored of it.
    """
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ModelError(f"{path}: expected {expected}, got {type(state).__name__} without names of weights")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            raise ModelError(f"{path}: expected {expected}, got one whose {name} is no tensor")
        if value.untyped_storage().nbytes() < value.nbytes:
            raise ModelError(f"{path}: expected {expected}, got one whose {name} is not stored as a whole")
    return state


def sizes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def with_weights(make: Callable[[], M], weights: dict[str, Tensor]) -> M:
    """A network with these weights, which is not made before its sizes are known to be theirs.

    Raises ValueError where they are not.
    """
    with torch.device("meta"):  # sizes alone: a file may state any
        wanted = sizes(make().state_dict())
    given = sizes(weights)
    if given != wanted:
        name = next(name for name in wanted | given if wanted.get(name) != given.get(name))
        raise ValueError(f"{given.get(name, 'nothing')} for {name}, expected {wanted.get(name, 'nothing')}")
    network = make()
    network.load_state_dict(weights)
    return network
