"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it belongs to, like transport.
        grade: ok; note, which may be meant so; wrong.
        sentence: what was found.
        remedy: what to do about it; empty for ok.
    """

    subject: str
    grade: Grade
    sentence: str
    remedy: str = ""


def ok(subject: str, sentence: str) -> Finding:
    return Finding(subject, "ok", sentence)


def note(subject: str, sentence: str, remedy: str) -> Finding:
    return Finding(subject, "note", sentence, remedy)


def wrong(subject: str, sentence: str, remedy: str) -> Finding:
    return Finding(subject, "wrong", sentence, remedy)
