"""Substitutions of launch files, $(name arguments), as `ros2 launch` has them.

Known are var, env, dirname, filename, find-pkg-share, find-pkg-prefix, find-exec, anon, equals, not-equals, not, and,
or, if, and eval of literals, comparisons and arithmetic. Arguments are separated by spaces; one in quotation marks may
hold spaces. \\$ is a dollar sign.
"""

from __future__ import annotations

import ast
import math
import operator
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from camtrack.launch.packages import LaunchError, find_prefix, find_share

TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Scope(Protocol):
    """What substitutions are made from."""

    file: Path
    arguments: dict[str, str]
    environment: dict[str, str]


def truth(text: str) -> bool:
    """Raises LaunchError for a text that is no condition."""
    if text.strip().lower() not in TRUTH:
        raise LaunchError(f"expected a condition to be true, false, 1 or 0, got '{text}'")
    return TRUTH[text.strip().lower()]


def expand(text: str, scope: Scope) -> str:
    """The text with its substitutions made. Raises LaunchError."""
    before, opening, rest = text.partition("$(")
    if not opening:
        return text.replace("\\$", "$")
    if before.endswith("\\"):
        return f"{before[:-1]}$({expand(rest, scope)}"
    inside, after = _to_closing(rest)
    name, *arguments = split(inside) or [""]
    if name not in SUBSTITUTIONS:
        raise LaunchError(f"$({name}) is not supported here; known are {', '.join(SUBSTITUTIONS)}")
    least, most, act = SUBSTITUTIONS[name]
    if not least <= len(arguments) <= most:
        count = str(least) if least == most else f"{least} to {most}"
        raise LaunchError(f"$({inside}): expected {count} arguments, got {len(arguments)}; quote one that holds spaces")
    value = act(scope, *(expand(argument, scope) for argument in arguments))
    return before.replace("\\$", "$") + value + expand(after, scope)


def _to_closing(text: str) -> tuple[str, str]:
    """Text up to the parenthesis that closes one opened before it, and the text after that."""
    depth = 1
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[:index], text[index + 1 :]
    raise LaunchError(f"the substitution '$({text}' is not closed")


def split(text: str) -> list[str]:
    """The parts of a text between spaces, before substitutions are made: what they bring is not split.

    Of a part in quotation marks what is between the marks, where \\' stands for '.
    """
    parts: list[str] = []
    current, mark, begun, i = "", "", False, 0
    while i < len(text):
        character, following = text[i], text[i + 1 : i + 2]
        if character == "$" and following == "(" and not current.endswith("\\"):
            _, after = _to_closing(text[i + 2 :])
            current, begun, i = current + text[i : len(text) - len(after)], True, len(text) - len(after)
            continue
        if mark and character == "\\" and following == mark:
            current, i = current + mark, i + 1
        elif mark and character == mark:
            mark = ""
        elif not mark and not begun and character in "'\"":
            mark, begun = character, True
        elif not mark and character.isspace():
            parts += [current] if begun else []
            current, begun = "", False
        else:
            current, begun = current + character, True
        i += 1
    return [*parts, current] if begun else parts


# --- What they mean


def _variable(scope: Scope, name: str, default: str | None = None) -> str:
    value = scope.arguments.get(name, default)
    if value is None:
        raise LaunchError(f"$(var {name}): there is no argument or variable of this name here")
    return value


def _environment(scope: Scope, name: str, default: str | None = None) -> str:
    value = scope.environment.get(name, os.environ.get(name, default))
    if value is None:
        raise LaunchError(f"$(env {name}): the variable is not set and no default is given")
    return value


def _find_executable(_: Scope, name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise LaunchError(f"$(find-exec {name}): there is no such program on the PATH")
    return found


def _anonymous(scope: Scope, name: str) -> str:
    """The same name for the same text, another one in each process."""
    return f"{name}_{socket.gethostname()}_{os.getpid()}".replace("-", "_").replace(".", "_")


def _are_equal(one: str, other: str) -> bool:
    """As texts, as truths or as numbers."""
    if one == other:
        return True
    if one.lower() in TRUTH and other.lower() in TRUTH:
        return TRUTH[one.lower()] == TRUTH[other.lower()]
    with suppress(ValueError):
        return math.isclose(float(one), float(other))
    return False


def _evaluate(_: Scope, expression: str) -> str:
    try:
        return str(_value(ast.parse(expression.strip(), mode="eval").body))
    except (SyntaxError, ValueError, TypeError, ArithmeticError) as error:
        sentence = f"$(eval {expression}): expected literals, comparisons and arithmetic, else it is not supported here"
        raise LaunchError(f"{sentence}; {error}") from error


def _value(node: ast.expr) -> Any:
    """Value of an expression of literals, comparisons, arithmetic, and, or, not."""
    if isinstance(node, ast.BoolOp):
        values = [_value(value) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.Compare):
        operands = [_value(operand) for operand in (node.left, *node.comparators)]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        return all(_COMPARISONS[type(comparison)](left, right) for comparison, left, right in pairs)
    return ast.literal_eval(node)


def _text(value: bool) -> str:
    return str(value).lower()


def _if(_: Scope, condition: str, then: str, otherwise: str = "") -> str:
    return then if truth(condition) else otherwise


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
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
SUBSTITUTIONS: dict[str, tuple[int, int, Callable[..., str]]] = {  # least and most arguments, what they become
    "var": (1, 2, _variable),
    "env": (1, 2, _environment),
    "dirname": (0, 0, lambda scope: str(scope.file.parent)),
    "filename": (0, 0, lambda scope: str(scope.file)),
    "find-pkg-share": (1, 1, lambda _, package: str(find_share(package))),
    "find-pkg-prefix": (1, 1, lambda _, package: str(find_prefix(package))),
    "find-exec": (1, 1, _find_executable),
    "anon": (1, 1, _anonymous),
    "equals": (2, 2, lambda _, one, other: _text(_are_equal(one, other))),
    "not-equals": (2, 2, lambda _, one, other: _text(not _are_equal(one, other))),
    "not": (1, 1, lambda _, value: _text(not truth(value))),
    "and": (2, 2, lambda _, one, other: _text(truth(one) and truth(other))),
    "or": (2, 2, lambda _, one, other: _text(truth(one) or truth(other))),
    "if": (2, 3, _if),
    "eval": (1, 1, _evaluate),
}
