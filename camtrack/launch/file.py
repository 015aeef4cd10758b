"""Reads *.launch.xml files as `ros2 launch` does, as far as this project's files need it.

ELEMENTS are the elements with their attributes; each may have if or unless. Substitutions are in `substitutions`. A
<param> has the type that its text has in YAML, or that its attribute `type` names. What `ros2 launch` refuses is
refused, and what it knows beyond this is said not to be supported here; nothing is ignored. docs/launch.md compares.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import yaml

from camtrack.launch.packages import LaunchError, find_executable
from camtrack.launch.substitutions import expand, split, truth

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Form:
    """What an element may hold.

    Attributes:
        attributes: besides if and unless.
        children: by tag; None for actions.
        elsewhere: attributes that `ros2 launch` knows beyond them.
    """

    attributes: frozenset[str] = frozenset()
    children: Mapping[str, Form] | None = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


def _form(attributes: str, elsewhere: str = "", **children: Form) -> Form:
    return Form(frozenset(attributes.split()), children, frozenset(elsewhere.split()))


_PAIR = _form("name value")
_REMAP = _form("from to")
_PARAMETER = Form(frozenset(("name", "value", "type")), {}, frozenset(("value-sep", "sep")))
for _ in range(3):  # depth of parameters within parameters
    _PARAMETER = replace(_PARAMETER, children={"param": _PARAMETER})
_PARAMETERS = replace(
    _PARAMETER,
    attributes=_PARAMETER.attributes | {"from"},
    elsewhere=_PARAMETER.elsewhere | {"allow_substs"},
)
_OF_PROCESSES = "name cwd launch-prefix output on_exit respawn respawn_delay respawn_max_retries"
_OF_PROCESSES_ELSEWHERE = "shell emulate_tty sigterm_timeout sigkill_timeout"
ELEMENTS: dict[str, Form] = {
    "arg": _form("name default description", choice=_form("value")),
    "let": _PAIR,
    "set_env": _PAIR,
    "append_env": _form("name value prepend separator"),
    "log": _form("message"),
    "include": _form("file", arg=_PAIR),
    "group": Form(frozenset(("scoped",)), None, frozenset(("forwarding",))),
    "push_ros_namespace": _form("namespace"),
    "set_remap": _REMAP,
    "set_parameter": _form("name value", "type"),
    "executable": _form(f"cmd {_OF_PROCESSES}", _OF_PROCESSES_ELSEWHERE, env=_PAIR),
    "node": _form(
        f"pkg exec namespace args ros_args {_OF_PROCESSES}",
        f"exec_name {_OF_PROCESSES_ELSEWHERE}",
        remap=_REMAP,
        param=_PARAMETERS,
        env=_PAIR,
    ),
}
OUTPUTS = ("screen", "log", "both", "own_log", "full")  # where output may go; here it is always the screen
TYPES: dict[str, type | None] = {"yaml": None, "str": str, "int": int, "float": float, "bool": bool}  # of parameters


@dataclass(frozen=True)
class Process:
    """A process that a launch file asks for.

    Attributes:
        name: shown before its output.
        command: program and arguments.
        environment: variables besides the inherited ones.
        folder: that it works in; None: this process's.
        required: whether its end is the end of everything.
        respawn_delay: seconds after which it is started again when it ends; None: never.
        respawn_max_retries: how often at the most; negative: without end.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    required: bool = False
    respawn_delay: float | None = None
    respawn_max_retries: int = -1


def read_launch_file(path: str | Path, arguments: Mapping[str, str]) -> list[Process]:
    """The processes of a launch file, given values for its arguments. Raises LaunchError."""
    scope = _Scope(file=Path(path).resolve(), arguments=dict(arguments))
    try:
        _carry_out(_parse(path), scope)
    except RecursionError:
        raise LaunchError(f"{path}: expected files that do not include themselves") from None
    unknown = set(arguments) - scope.declared
    if unknown:
        name = min(unknown)
        raise LaunchError(f"{path} has no argument '{name}'{_hint(name, scope.declared)}")
    return scope.processes


def declared_arguments(path: str | Path) -> list[tuple[str, str | None, str]]:
    """Name, default (as written; None if required) and description of a launch file's own arguments."""
    elements = [element for element in _parse(path) if element.tag == "arg"]
    for element in elements:
        _check(element, ELEMENTS["arg"], conditional=True)
    return [(_given(e, "name"), e.get("default"), e.get("description", "")) for e in elements]


@dataclass
class _Scope:
    """What a group inherits and may change for itself; declared and processes are common to all."""

    file: Path
    arguments: dict[str, str]
    namespace: str = ""
    remaps: list[tuple[str, str]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    processes: list[Process] = field(default_factory=list)

    def inner(self) -> _Scope:
        scope = copy(self)
        for name in ("arguments", "remaps", "parameters", "environment"):
            setattr(scope, name, copy(getattr(self, name)))
        return scope


def _parse(path: str | Path) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except OSError as error:
        raise LaunchError(f"cannot read launch file {path}: {error.strerror}") from error
    except (ET.ParseError, LookupError, ValueError) as error:  # the last two of strange encodings
        raise LaunchError(f"launch file {path} is no valid XML: {error}") from error
    if root.tag != "launch":
        raise LaunchError(f"launch file {path}: expected the root <launch>, got <{root.tag}>")
    return root


def _carry_out(parent: ET.Element, scope: _Scope) -> None:
    for element in parent:
        tag = element.tag.replace("push-ros-namespace", "push_ros_namespace")
        if tag not in _ACTIONS:
            raise LaunchError(f"<{element.tag}> is not supported here; known are {', '.join(_ACTIONS)}")
        _check(element, ELEMENTS[tag], conditional=True)
        if _wanted(element, scope):
            _ACTIONS[tag](element, scope)


def _check(element: ET.Element, form: Form, conditional: bool) -> None:
    """Raises LaunchError for attributes and children that the element does not have."""
    conditions = {"if", "unless"} if conditional else set()
    if conditions <= element.attrib.keys() and conditions:
        raise LaunchError(f"<{element.tag}>: expected if or unless, got both")
    foreign = element.attrib.keys() & form.elsewhere
    unknown = element.attrib.keys() - form.attributes - conditions - foreign
    if unknown:
        known = sorted(form.attributes | conditions)
        raise LaunchError(f"<{element.tag}> has no attribute '{min(unknown)}'{_hint(min(unknown), known)}")
    if foreign:
        raise LaunchError(f"<{element.tag}>: the attribute '{min(foreign)}' is not supported here")
    for child in element:
        if form.children is not None and child.tag not in form.children:
            raise LaunchError(f"<{element.tag}> has no children <{child.tag}>{_hint(child.tag, form.children)}")
        if form.children is not None:
            _check(child, form.children[child.tag], conditional=False)


def _wanted(element: ET.Element, scope: _Scope) -> bool:
    if "if" in element.attrib:
        return truth(_text(element, "if", scope))
    return "unless" not in element.attrib or not truth(_text(element, "unless", scope))


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(sorted(known)) or 'none'}"


def _given(element: ET.Element, attribute: str, default: str | None = None) -> str:
    """An attribute as it is written."""
    value = element.get(attribute, default)
    if value is None:
        raise LaunchError(f"<{element.tag}> needs the attribute '{attribute}'")
    return value


def _text(element: ET.Element, attribute: str, scope: _Scope, default: str | None = None) -> str:
    """An attribute with its substitutions made."""
    return expand(_given(element, attribute, default), scope)


def _parts(element: ET.Element, attribute: str, scope: _Scope, default: str | None = None) -> list[str]:
    """The parts of an attribute between spaces; what a substitution brings is not split."""
    return [expand(part, scope) for part in split(_given(element, attribute, default))]


def _number(element: ET.Element, attribute: str, kind: Callable[[str], N], default: str) -> N:
    """An attribute that is a number and, as in `ros2 launch`, no substitution."""
    text = _given(element, attribute, default)
    try:
        return kind(text)
    except ValueError:
        raise LaunchError(f"<{element.tag}>: expected {attribute} to be a number, got '{text}'") from None


# --- Elements


def _arg(element: ET.Element, scope: _Scope) -> None:
    name = _text(element, "name", scope)
    scope.declared.add(name)
    if name not in scope.arguments:
        if "default" not in element.attrib:
            meaning = f" ({element.get('description')})" if element.get("description") else ""
            raise LaunchError(f"argument '{name}'{meaning} is missing: give {name}:=VALUE")
        scope.arguments[name] = _text(element, "default", scope)
    choices = [choice.get("value", "") for choice in element]
    if choices and scope.arguments[name] not in choices:
        raise LaunchError(f"argument '{name}': expected one of {', '.join(choices)}, got '{scope.arguments[name]}'")


def _let(element: ET.Element, scope: _Scope) -> None:
    scope.arguments[_text(element, "name", scope)] = _text(element, "value", scope)


def _set_env(element: ET.Element, scope: _Scope) -> None:
    scope.environment[_text(element, "name", scope)] = _text(element, "value", scope)


def _append_env(element: ET.Element, scope: _Scope) -> None:
    name, value = _text(element, "name", scope), _text(element, "value", scope)
    before = scope.environment.get(name, os.environ.get(name))
    ahead = truth(_text(element, "prepend", scope, "false"))
    parts = [value] if before is None else [value, before] if ahead else [before, value]
    scope.environment[name] = _text(element, "separator", scope, os.pathsep).join(parts)


def _log(element: ET.Element, scope: _Scope) -> None:
    print(f"[launch] {_text(element, 'message', scope)}", flush=True)


def _include(element: ET.Element, scope: _Scope) -> None:
    path = Path(_text(element, "file", scope))
    for argument in element:
        scope.arguments[_text(argument, "name", scope)] = _text(argument, "value", scope)
    outer, scope.file = scope.file, path.resolve()
    _carry_out(_parse(path), scope)
    scope.file = outer


def _group(element: ET.Element, scope: _Scope) -> None:
    _carry_out(element, scope.inner() if truth(_text(element, "scoped", scope, "true")) else scope)


def _push_namespace(element: ET.Element, scope: _Scope) -> None:
    scope.namespace = _join(scope.namespace, _text(element, "namespace", scope))


def _set_remap(element: ET.Element, scope: _Scope) -> None:
    scope.remaps.append((_text(element, "from", scope), _text(element, "to", scope)))


def _set_parameter(element: ET.Element, scope: _Scope) -> None:
    scope.parameters[_text(element, "name", scope)] = _parameter_value(element, scope)


def _executable(element: ET.Element, scope: _Scope) -> None:
    command = _parts(element, "cmd", scope)
    if not command:
        raise LaunchError("<executable>: expected a command in cmd, got none")
    scope.processes.append(_process(element, scope, _text(element, "name", scope, Path(command[0]).name), command))


def _node(element: ET.Element, scope: _Scope) -> None:
    executable = _text(element, "exec", scope)
    if "pkg" not in element.attrib:
        raise LaunchError("<node>: a program without a package (pkg) is not supported here")
    name = _text(element, "name", scope, "")
    namespace = _join(scope.namespace, _text(element, "namespace", scope, ""))
    command = [*find_executable(_text(element, "pkg", scope), executable)]
    command += _parts(element, "args", scope, "")
    command += ["--ros-args", *_parts(element, "ros_args", scope, "")]
    remaps = [("__node", name)] if name else []
    remaps += [("__ns", namespace)] if namespace else []
    remaps += scope.remaps
    remaps += [(_text(r, "from", scope), _text(r, "to", scope)) for r in element.findall("remap")]
    for source, target in remaps:
        command += ["-r", f"{source}:={target}"]
    command += _parameter_arguments(scope.parameters)
    for parameter in element.findall("param"):
        _check_parameter(parameter)
        if "from" in parameter.attrib:
            command += ["--params-file", _text(parameter, "from", scope)]
        else:
            command += _parameter_arguments(_parameters(parameter, scope, ""))
    scope.processes.append(_process(element, scope, name or executable, command))


def _process(element: ET.Element, scope: _Scope, name: str, command: Sequence[str]) -> Process:
    own = {_text(e, "name", scope): _text(e, "value", scope) for e in element.findall("env")}
    respawns = truth(_text(element, "respawn", scope, "false"))
    at_its_end = _text(element, "on_exit", scope, "shutdown")
    if at_its_end != "shutdown":
        raise LaunchError(f"<{element.tag}>: expected on_exit to be shutdown, got '{at_its_end}'")
    if (output := _text(element, "output", scope, "screen")) not in OUTPUTS:
        raise LaunchError(f"<{element.tag}>: expected output to be one of {', '.join(OUTPUTS)}, got '{output}'")
    if (delay := _number(element, "respawn_delay", float, "0")) < 0:
        raise LaunchError(f"<{element.tag}>: expected respawn_delay to be at least 0, got {delay:g}")
    return Process(
        name=name,
        command=(*_parts(element, "launch-prefix", scope, ""), *command),
        folder=_text(element, "cwd", scope, "") or None,
        environment={**scope.environment, **own},
        required="on_exit" in element.attrib,
        respawn_delay=delay if respawns else None,
        respawn_max_retries=_number(element, "respawn_max_retries", int, "-1"),
    )


def _check_parameter(element: ET.Element) -> None:
    """A <param> is a file, or a value, or holds others. Raises LaunchError for one that is two of these."""
    if "from" in element.attrib and (len(element.attrib) > 1 or len(element)):
        raise LaunchError("<param>: expected from alone, for all that it could say besides stands in the file")
    if len(element) and element.attrib.keys() & {"value", "type"}:
        raise LaunchError("<param>: expected a value or further parameters in it, got both")
    for inner in element:
        _check_parameter(inner)


def _parameters(element: ET.Element, scope: _Scope, prefix: str) -> dict[str, Any]:
    """A <param>, or the dotted names of the ones that it holds."""
    name = prefix + _text(element, "name", scope)
    inner = element.findall("param")
    if not inner:
        return {name: _parameter_value(element, scope)}
    return {key: value for child in inner for key, value in _parameters(child, scope, f"{name}.").items()}


def _parameter_value(element: ET.Element, scope: _Scope) -> Any:
    text, kind = _text(element, "value", scope), element.get("type", "yaml")
    if kind not in TYPES:
        raise LaunchError(f"<{element.tag}>: expected one of the types {', '.join(TYPES)}, got '{kind}'")
    if kind == "str" or (kind == "yaml" and not text.strip()):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        sentence = f"<{element.tag}>: expected a value as YAML has it, or type=\"str\", got '{text}'"
        raise LaunchError(sentence) from error
    wanted = TYPES[kind]
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is not None and type(value) is not wanted:
        raise LaunchError(f"<{element.tag}>: expected a value of the type {kind}, got '{text}'")
    return value


def _parameter_arguments(parameters: Mapping[str, Any]) -> list[str]:
    arguments = []
    for name, value in parameters.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=inf).strip().removesuffix("...").strip()
        arguments += ["-p", f"{name}:={text}"]
    return arguments


def _join(outer: str, inner: str) -> str:
    """A namespace within another one; an absolute one stands for itself."""
    if inner.startswith("/") or not inner:
        return inner or outer
    return f"{outer.rstrip('/')}/{inner}"


_ACTIONS: dict[str, Callable[[ET.Element, _Scope], None]] = {
    "arg": _arg,
    "let": _let,
    "set_env": _set_env,
    "append_env": _append_env,
    "log": _log,
    "include": _include,
    "group": _group,
    "push_ros_namespace": _push_namespace,
    "set_remap": _set_remap,
    "set_parameter": _set_parameter,
    "node": _node,
    "executable": _executable,
}
