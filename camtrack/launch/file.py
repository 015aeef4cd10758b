"""Reads *.launch.xml files as `ros2 launch` does, as far as this project's files need it.

Elements: arg let set_env include group node executable log push_ros_namespace set_remap set_parameter, each
with if and unless. Substitutions: var env dirname find-pkg-share equals not-equals eval (comparisons of literals
joined by and, or, not). A <param> has the type that its text has in YAML, or with type="str" stays text. Anything else
is an error, never ignored.
"""

from __future__ import annotations

import ast
import operator
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from math import inf
from pathlib import Path
from typing import Any

import yaml

from camtrack_core.errors import ConfigurationError


class LaunchError(ConfigurationError):
    """A launch file that cannot be carried out as it stands."""


@dataclass(frozen=True)
class Process:
    """A process that a launch file asks for.

    Attributes:
        name: shown before its output.
        command: program and arguments.
        environment: variables besides the inherited ones.
        required: whether its end is the end of everything.
        respawn_delay: seconds after which it is started again when it ends; None: never.
        respawn_max_retries: how often at the most; negative: without end.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    required: bool = False
    respawn_delay: float | None = None
    respawn_max_retries: int = -1


def read_launch_file(path: str | Path, arguments: Mapping[str, str]) -> list[Process]:
    """The processes of a launch file, given values for its arguments. Raises LaunchError."""
    scope = _Scope(directory=Path(path).resolve().parent, arguments=dict(arguments))
    _carry_out(_parse(path), scope)
    unknown = set(arguments) - scope.declared
    if unknown:
        name = min(unknown)
        close = get_close_matches(name, scope.declared, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(scope.declared))}"
        raise LaunchError(f"{path} has no argument '{name}'; {hint}")
    return scope.processes


def declared_arguments(path: str | Path) -> list[tuple[str, str | None, str]]:
    """Name, default (as written; None if required) and description of a launch file's own arguments."""
    return [
        (element.attrib["name"], element.get("default"), element.get("description", ""))
        for element in _parse(path)
        if element.tag == "arg"
    ]


@dataclass
class _Scope:
    """What a group inherits and may change for itself; declared and processes are common to all."""

    directory: Path
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
        return ET.parse(path).getroot()
    except OSError as error:
        raise LaunchError(f"cannot read launch file {path}: {error.strerror}") from error
    except ET.ParseError as error:
        raise LaunchError(f"launch file {path} is no valid XML: {error}") from error


def _carry_out(parent: ET.Element, scope: _Scope) -> None:
    for element in parent:
        action = _ACTIONS.get(element.tag.replace("-", "_"))
        if action is None:
            raise LaunchError(f"<{element.tag}> is not among the supported elements {', '.join(_ACTIONS)}")
        if _wanted(element, scope):
            action(element, scope)


def _wanted(element: ET.Element, scope: _Scope) -> bool:
    return ("if" not in element.attrib or _truth(_text(element, "if", scope))) and (
        "unless" not in element.attrib or not _truth(_text(element, "unless", scope))
    )


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.strip().lower() not in known:
        raise LaunchError(f"expected a condition to be true, false, 1 or 0, got '{text}'")
    return known[text.strip().lower()]


def _text(element: ET.Element, attribute: str, scope: _Scope, default: str | None = None) -> str:
    """An attribute with its substitutions made."""
    value = element.get(attribute, default)
    if value is None:
        raise LaunchError(f"<{element.tag}> needs the attribute '{attribute}'")
    return _expand(value, scope)


# --- Substitutions


def _expand(text: str, scope: _Scope) -> str:
    before, opening, rest = text.partition("$(")
    if not opening:
        return text
    inside, after = _to_closing(rest)
    name, _, argument = inside.partition(" ")
    if name not in _SUBSTITUTIONS and name not in _COMPARING:
        known = ", ".join([*_SUBSTITUTIONS, *_COMPARING])
        raise LaunchError(f"$({name}) is not among the supported substitutions {known}")
    if name in _COMPARING:  # argument by argument: a value may hold spaces and quotation marks
        value = str(_COMPARING[name](*_two(name, argument, scope))).lower()
    else:
        value = _SUBSTITUTIONS[name](_expand(argument, scope).strip(), scope)
    return before + value + _expand(after, scope)


def _two(name: str, text: str, scope: _Scope) -> tuple[str, str]:
    """The two arguments of a comparison, with their substitutions made."""
    arguments, depth = [""], 0
    for character in text.strip():
        depth += (character == "(") - (character == ")")
        if character == " " and not depth:
            arguments.append("")
        else:
            arguments[-1] += character
    if len(arguments) != 2 or any(mark in text for mark in "'\""):
        raise LaunchError(f"$({name} {text}): expected two arguments without quotation marks")
    return _expand(arguments[0], scope), _expand(arguments[1], scope)


def _to_closing(text: str) -> tuple[str, str]:
    """Text up to the parenthesis that closes one opened before it, and the text after that."""
    depth = 1
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[:index], text[index + 1 :]
    raise LaunchError(f"the substitution '$({text}' is not closed")


def _variable(name: str, scope: _Scope) -> str:
    if name not in scope.arguments:
        raise LaunchError(f"$(var {name}): there is no argument or variable of this name here")
    return scope.arguments[name]


def _environment(argument: str, scope: _Scope) -> str:
    name, _, default = argument.partition(" ")
    value = scope.environment.get(name, os.environ.get(name, default.strip("'\"") if default else None))
    if value is None:
        raise LaunchError(f"$(env {name}): the variable is not set and no default is given")
    return value


def _evaluate(argument: str, _: _Scope) -> str:
    try:
        return str(_value(ast.parse(_unquoted(argument).strip(), mode="eval").body))
    except (SyntaxError, ValueError, TypeError) as error:
        raise LaunchError(f"$(eval {argument}): expected a comparison of literals; {error}") from error


def _unquoted(text: str) -> str:
    """Text without quotation marks around the whole of it; \\' within them stands for '."""
    mark, inside = text[:1], text[1:-1]
    quoted = mark and mark in "'\"" and text.endswith(mark) and mark not in inside.replace(f"\\{mark}", "")
    return inside.replace(f"\\{mark}", mark) if quoted else text


def _value(node: ast.expr) -> Any:
    """Value of an expression of literals, comparisons, and, or, not: all that conditions need."""
    if isinstance(node, ast.BoolOp):
        values = [_value(value) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand)
    if isinstance(node, ast.Compare):
        operands = [_value(operand) for operand in (node.left, *node.comparators)]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        return all(_COMPARISONS[type(comparison)](left, right) for comparison, left, right in pairs)
    return ast.literal_eval(node)


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_SUBSTITUTIONS: dict[str, Callable[[str, _Scope], str]] = {
    "var": _variable,
    "env": _environment,
    "dirname": lambda _, scope: str(scope.directory),
    "find-pkg-share": lambda package, _: str(find_share(package)),
    "eval": _evaluate,
}
_COMPARING: dict[str, Callable[[str, str], bool]] = {"equals": operator.eq, "not-equals": operator.ne}


# --- Packages


def prefixes() -> list[Path]:
    """Where packages may be installed: the ament prefixes, then this Python's own."""
    return [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p] + [Path(sys.prefix)]


def find_share(package: str) -> Path:
    """The share folder of a package. Raises LaunchError."""
    for prefix in prefixes():
        if (prefix / "share" / package).is_dir():
            return prefix / "share" / package
    raise LaunchError(f"package '{package}' has no share folder in {', '.join(map(str, prefixes()))}")


def find_executable(package: str, name: str) -> tuple[str, ...]:
    """The command for an executable: lib/<package>/<name>, else the console script. Raises LaunchError."""
    for prefix in prefixes():
        if (prefix / "lib" / package / name).is_file():
            return (str(prefix / "lib" / package / name),)
    for script in entry_points(group="console_scripts", name=name):
        if script.dist is not None and script.dist.name.replace("-", "_") == package:
            start = f"import sys; sys.argv[0] = {name!r}; from {script.module} import {script.attr} as main"
            return sys.executable, "-c", f"{start}; sys.exit(main())"
    raise LaunchError(f"package '{package}' has no executable '{name}' in lib/ or as console script")


# --- Elements


def _arg(element: ET.Element, scope: _Scope) -> None:
    name = element.attrib["name"]
    scope.declared.add(name)
    if name not in scope.arguments:
        if "default" not in element.attrib:
            meaning = f" ({element.get('description')})" if element.get("description") else ""
            raise LaunchError(f"argument '{name}'{meaning} is missing: give {name}:=VALUE")
        scope.arguments[name] = _text(element, "default", scope)


def _let(element: ET.Element, scope: _Scope) -> None:
    scope.arguments[element.attrib["name"]] = _text(element, "value", scope)


def _set_env(element: ET.Element, scope: _Scope) -> None:
    scope.environment[_text(element, "name", scope)] = _text(element, "value", scope)


def _log(element: ET.Element, scope: _Scope) -> None:
    print(f"[launch] {_text(element, 'message', scope)}", flush=True)


def _include(element: ET.Element, scope: _Scope) -> None:
    path = Path(_text(element, "file", scope))
    for argument in element.findall("arg") + element.findall("let"):
        scope.arguments[argument.attrib["name"]] = _text(argument, "value", scope)
    outer, scope.directory = scope.directory, path.resolve().parent
    _carry_out(_parse(path), scope)
    scope.directory = outer


def _group(element: ET.Element, scope: _Scope) -> None:
    _carry_out(element, scope.inner() if _truth(element.get("scoped", "true")) else scope)


def _push_namespace(element: ET.Element, scope: _Scope) -> None:
    scope.namespace = _join(scope.namespace, _text(element, "namespace", scope))


def _set_remap(element: ET.Element, scope: _Scope) -> None:
    scope.remaps.append((_text(element, "from", scope), _text(element, "to", scope)))


def _set_parameter(element: ET.Element, scope: _Scope) -> None:
    scope.parameters[_text(element, "name", scope)] = _parameter_value(element, scope)


def _executable(element: ET.Element, scope: _Scope) -> None:
    command = tuple(_text(element, "cmd", scope).split())
    scope.processes.append(_process(element, scope, element.get("name") or Path(command[0]).name, command))


def _node(element: ET.Element, scope: _Scope) -> None:
    executable = _text(element, "exec", scope)
    name = _text(element, "name", scope, "")
    namespace = _join(scope.namespace, _text(element, "namespace", scope, ""))
    command = [*find_executable(_text(element, "pkg", scope), executable)]
    command += _text(element, "args", scope, "").split()
    command += ["--ros-args", *_text(element, "ros_args", scope, "").split()]
    remaps = [("__node", name)] if name else []
    remaps += [("__ns", namespace)] if namespace else []
    remaps += scope.remaps
    remaps += [(_text(r, "from", scope), _text(r, "to", scope)) for r in _children(element, "remap", scope)]
    for source, target in remaps:
        command += ["-r", f"{source}:={target}"]
    command += _parameter_arguments(scope.parameters)
    for parameter in _children(element, "param", scope):
        if "from" in parameter.attrib:
            command += ["--params-file", _text(parameter, "from", scope)]
        else:
            command += _parameter_arguments(_parameters(parameter, scope, ""))
    scope.processes.append(_process(element, scope, name or executable, command))


def _process(element: ET.Element, scope: _Scope, name: str, command: Sequence[str]) -> Process:
    own = {_text(e, "name", scope): _text(e, "value", scope) for e in _children(element, "env", scope)}
    respawns = _truth(_text(element, "respawn", scope, "false"))
    return Process(
        name=name,
        command=tuple(command),
        environment={**scope.environment, **own},
        required=_text(element, "on_exit", scope, "") == "shutdown",
        respawn_delay=float(_text(element, "respawn_delay", scope, "0")) if respawns else None,
        respawn_max_retries=int(_text(element, "respawn_max_retries", scope, "-1")),
    )


def _children(element: ET.Element, tag: str, scope: _Scope) -> list[ET.Element]:
    return [child for child in element.findall(tag) if _wanted(child, scope)]


def _parameters(element: ET.Element, scope: _Scope, prefix: str) -> dict[str, Any]:
    """A <param>, or the dotted names of the ones that it holds."""
    name = prefix + _text(element, "name", scope)
    inner = _children(element, "param", scope)
    if not inner:
        return {name: _parameter_value(element, scope)}
    return {key: value for child in inner for key, value in _parameters(child, scope, f"{name}.").items()}


def _parameter_value(element: ET.Element, scope: _Scope) -> Any:
    text, kind = _text(element, "value", scope), element.get("type", "yaml")
    if kind not in ("yaml", "str"):
        raise LaunchError(f"<{element.tag}>: expected the type yaml or str, got '{kind}'")
    if kind == "str" or not text.strip():
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        sentence = f"<{element.tag}>: expected a value as YAML has it, or type=\"str\", got '{text}'"
        raise LaunchError(sentence) from error


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
    "log": _log,
    "include": _include,
    "group": _group,
    "push_ros_namespace": _push_namespace,
    "set_remap": _set_remap,
    "set_parameter": _set_parameter,
    "node": _node,
    "executable": _executable,
}
