"""What continuous integration makes of skipped tests."""

from __future__ import annotations


def unexpected_skips(skipped: dict[str, str], allowed: str) -> list[str]:
    """What was skipped, with its reason, of which no line of `allowed` is the beginning."""
    lines = (line for line in allowed.splitlines() if line.strip() and not line.startswith("#"))
    names = tuple(line.split()[0] for line in lines)
    return [f"{name}: {reason}" for name, reason in skipped.items() if not name.startswith(names)]
