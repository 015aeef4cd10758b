"""The command: everything that is looked at, as a list."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from camtrack.doctor.findings import Finding
from camtrack.doctor.installation import examine_installation

STYLES = {"ok": "green", "note": "yellow", "wrong": "red"}


def examine(seconds: float, console: Console) -> list[Finding]:
    """All findings: of the installation, then of the running system, which is listened to for so long."""
    with console.status("looking at the installation"):
        findings = list(examine_installation())
    if any(f.subject == "installation" and f.grade == "wrong" for f in findings):
        return findings  # without the packages no system can be heard
    from camtrack.doctor.system import examine_system

    with console.status("listening to the running system"):
        return [*findings, *examine_system(seconds)]


def write_findings(findings: Sequence[Finding], console: Console) -> None:
    for finding in findings:
        console.print(
            Text(f"{finding.grade:5} ", STYLES[finding.grade]) + f"{finding.subject}: {finding.sentence}",
            soft_wrap=True,
        )
        if finding.remedy:
            console.print(Text(f"      -> {finding.remedy}"), soft_wrap=True)
    wrong = sum(finding.grade == "wrong" for finding in findings)
    console.print(f"{len(findings)} looked at, {wrong} wrong")


def worst_exit_code(findings: Sequence[Finding]) -> int:
    return int(any(finding.grade == "wrong" for finding in findings))
