"""Parameters: frozen, typed models that say in one sentence what is wrong with a value.

The models are the only source of defaults; nodes, the command line and launch files read them from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from camtrack_core.errors import ConfigurationError
from camtrack_core.runtime.base import AUTO, Device, Precision


class Parameters(BaseModel):
    """Base of every parameter model: immutable, finite, and a name that it does not know is an error.

    Text may look like a number: launch files hand over a folder named 2024 as one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _of_64_bits(cls, value: object) -> object:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"expected a whole number of 64 bits, got {value}")
        return value


P = TypeVar("P", bound=Parameters)


class NodeParameters(Parameters):
    """What every node of this project can be told."""

    autostart: bool = Field(True, description="configure and activate without being asked to")


class StampParameters(Parameters):
    """What every node can be told of the stamps of its measurements."""

    future_tolerance: float = Field(0.5, ge=0, description="how far a stamp may be ahead of the clock, seconds")


class ImageNodeParameters(NodeParameters, StampParameters):
    """What every node that listens to a camera can be told."""

    image_transport: Literal["raw", "compressed"] = Field(
        "raw", description="raw: Image on `image`; compressed: CompressedImage on `image/compressed`"
    )
    image_timeout: float = Field(2.0, gt=0, description="warn after so long without an image, seconds")
    age_limit: float = Field(0.5, gt=0, description="warn of results that come so long after their images, seconds")


def _split(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


# A list, or a text with spaces between the names, as launch files give it.
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class InferenceParameters(Parameters):
    """What every node with a network can be told of what runs it."""

    device: Device = Field(
        "auto", description=f"what runs the model; auto: the first of {', '.join(AUTO)} that this machine has"
    )
    device_id: int = Field(0, ge=0, description="number of the GPU that runs the model")
    precision: Precision = Field(
        "auto",
        description="f32: float32; f16: float16 convolutions on a GPU; bf16: OpenVINO's bfloat16 on a processor that "
        "computes in it; auto: f16 or bf16, whichever there is",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0 leaves it to the engine")
    batch_timeout: float = Field(
        0.01, ge=0, description="how long an image waits for other cameras', seconds, where the model takes several"
    )


def validated(model: type[P], values: Mapping[str, object]) -> P:
    """An instance of `model` with these values.

    Raises ConfigurationError with one sentence for each refused value, in the order of the fields.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        sentences = [_sentence(model, **details) for details in error.errors(include_url=False)]
        raise ConfigurationError("; ".join(sentences)) from None


def refused(model: type[Parameters], values: Mapping[str, object], names: Collection[str]) -> list[str]:
    """A sentence for each of the named values (dotted names) that is wrong by itself, whatever the others are."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        places = [(".".join(map(str, details["loc"])), details) for details in error.errors(include_url=False)]
        own = [details for place, details in places if any(f"{place}.".startswith(f"{name}.") for name in names)]
        return [_sentence(model, **details) for details in own]
    return []


def _sentence(
    model: type[Parameters], type: str, loc: tuple[int | str, ...], msg: str, input: object, **_: object
) -> str:
    name = ".".join(str(part) for part in loc)
    if type == "extra_forbidden":
        return unknown_name(name, parameter_names(model))
    if type == "missing":
        return f"parameter '{name}': expected a value, got none"
    # A message from a validator of ours is complete; pydantic's own say only what was expected.
    message = msg.removeprefix("Value error, ")
    if type == "int_parsing_size":
        message = f"expected a whole number of 64 bits, got {input!r}"
    elif message == msg:
        message = f"{msg.replace('Input should be', 'expected', 1)}, got {input!r}"
    return f"parameter '{name}': {message}" if name else message


def unknown_name(name: str, known: list[str]) -> str:
    """The sentence for a parameter that nobody declared."""
    close = get_close_matches(name, known, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(known))}"
    return f"unknown parameter '{name}'; {hint}"


def parameter_names(model: type[Parameters], prefix: str = "") -> list[str]:
    """Names of all fields of a model; those of nested models are dotted."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        nested = nested_model(field.annotation)
        names += parameter_names(nested, f"{prefix}{name}.") if nested else [prefix + name]
    return names


def nested_model(annotation: object) -> type[Parameters] | None:
    """The parameter model that a field's annotation is, or None."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, Parameters) else None


def nested_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names as values of nested models."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *path, leaf = name.split(".")
        inner = nested
        for part in path:
            inner = inner.setdefault(part, {})
        inner[leaf] = value
    return nested
