"""What the commands of the command line share: configuration files, progress, and the result as a sentence or JSON.

Results go to standard output, everything else to standard error, so that the output of any command can be piped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import rich.progress
import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from camtrack_core.config import P, validated
from camtrack_core.errors import ConfigurationError

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def make_console(stderr: bool = False) -> Console:
    """A console that prints texts as they are: names of files and data hold brackets, which are no markup."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def conclude(result: dict[str, Any], sentence: str, as_json: bool) -> None:
    """Prints what a command has done."""
    if as_json:
        print_json(result)
    else:
        typer.echo(sentence)


def complain(sentence: str) -> None:
    """Says on standard error what is wrong; the sentence may hold text of users, which is no markup."""
    make_console(stderr=True).print(Text("error: ", "red") + Text(sentence), soft_wrap=True)


def print_json(value: Any) -> None:
    """Paths become text; what is not finite becomes null: JSON knows neither NaN nor infinity."""
    typer.echo(json.dumps(_plain(value), indent=1))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """The items, with a bar on standard error."""
    return rich.progress.track(items, escape(description), total, console=make_console(stderr=True))


def read_configuration(path: Path, model: type[P]) -> P:
    """The values of a YAML file. Raises ConfigurationError, naming the file, for anything else."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: expected a YAML file, got {error}") from error
    if not isinstance(values, dict):
        names = ", ".join(model.model_fields)
        raise ConfigurationError(f"{path}: expected a mapping with {names}, got {values!r}")
    try:
        return validated(model, values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
