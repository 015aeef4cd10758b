"""Tables and pictures of the report as HTML and SVG text; all text given is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np

from camtrack_core.evaluation.breakdown import NOBODY, JudgedFrame
from camtrack_core.evaluation.uadetrac_pr import Curve
from camtrack_core.geometry.boxes import Floats

COLOURS = ("#3366aa", "#cc6633", "#339966", "#aa3377", "#888833", "#666666")
TRACK_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#edc948", "#76b7b2", "#ff9da7", "#9c755f")
MISSED = "#c9c9c9"
WIDTH = 860  # of the pictures, pixels
LATENCY_BINS = 40
AXIS_SHARE = 95  # per cent of the frames of a run that the axis of its latency reaches
LONGEST = 22  # characters of a label beside a bar


def table(head: Sequence[str], rows: Sequence[Sequence[str]], best: Sequence[set[int]] = ()) -> str:
    """`best` names the columns of each row that are to stand out."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for number, row in enumerate(rows):
        marked = best[number] if best else set()
        cells = [f'<span class="best">{escape(c)}</span>' if k in marked else escape(c) for k, c in enumerate(row)]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def bars(title: str, labels: Sequence[str], values: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    """Groups of horizontal bars, a group a label and a bar a run; negative values have none."""
    thickness, gap, top = 12, 10, 24
    group = thickness * len(names) + gap
    scale = 420 / max(1e-9, *(v for row in values for v in row))
    shapes = [_text(170, 14, title, bold=True)]
    for i, label in enumerate(labels):
        y = top + i * group
        shapes.append(_text(160, y + group / 2, _short(label), "end"))
        for k in range(len(names)):
            value, row = values[k][i], y + k * thickness
            length = max(value, 0) * scale
            shapes.append(_bar(170, row, length, thickness - 2, colour(k)))
            shapes.append(f'<text x="{175 + length:.1f}" y="{row + 9}" font-size="10">{value:.3f}</text>')
    return svg(max(top + group * len(labels), 18 * len(names) + 12), [*shapes, _legend(names, 670)])


def curves(found: Sequence[Curve | None], names: Sequence[str]) -> str:
    """Precision over recall, a curve a run that has one."""
    left, top, side = 60, 20, 360
    shapes = [f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#999"/>']
    for tick in np.linspace(0, 1, 6):
        x, y = left + tick * side, top + (1 - tick) * side
        shapes.append(_text(x, top + side + 16, f"{tick:.1f}", "middle"))
        shapes.append(_text(left - 8, y + 5, f"{tick:.1f}", "end"))
    for k, curve in enumerate(found):
        if curve is not None:
            points = " ".join(
                f"{left + r * side:.1f},{top + (1 - p) * side:.1f}"
                for r, p in zip(curve.recall, curve.precision, strict=True)
            )
            shapes.append(f'<polyline points="{points}" fill="none" stroke="{colour(k)}" stroke-width="2"/>')
    shapes.append(_text(left + side / 2, top + side + 34, "recall", "middle"))
    shapes.append(_text(left, top - 7, "precision"))
    return svg(top + side + 44, [*shapes, _legend(names, 450)])


def latencies(milliseconds: Sequence[Floats], names: Sequence[str]) -> str:
    """Histograms of the time that a frame took, a run above the other, on one axis; the last bar holds the rest."""
    largest = max(float(np.percentile(values, AXIS_SHARE)) for values in milliseconds if len(values))
    edges = np.linspace(0, max(largest, 1e-3), LATENCY_BINS + 1)
    left, height, gap = 170, 70, 34
    width = 480 / LATENCY_BINS
    shapes = []
    for k, values in enumerate(milliseconds):
        top = 20 + k * (height + gap)
        shapes.append(_text(left - 10, top + height / 2, names[k], "end"))
        if not len(values):
            shapes.append(_text(left, top + height / 2, "times were not written down"))
            continue
        counts, _ = np.histogram(values.clip(max=edges[-1]), edges)
        for i, count in enumerate(counts):
            tall = height * count / counts.max()
            shapes.append(
                f'<rect x="{left + i * width:.1f}" y="{top + height - tall:.1f}" width="{width - 1:.1f}" '
                f'height="{tall:.1f}" fill="{colour(k)}"/>'
            )
        p50, p99 = np.percentile(values, [50, 99])
        shapes.append(_text(left + 490, top + 14, f"median {p50:.1f} ms"))
        shapes.append(_text(left + 490, top + 32, f"99 % below {p99:.1f} ms"))
        shapes.append(_text(left, top + height + 15, "0"))
        shapes.append(_text(left + 480, top + height + 15, f"{edges[-1]:.1f} ms and more", "end"))
    return svg(20 + len(names) * (height + gap), shapes)


def timeline(frames: Sequence[JudgedFrame], rows: int) -> str:
    """The life of true objects: a row each, coloured by the track that found it, grey where it was missed.

    Shown are the `rows` objects with most misses and switches, in order of appearance.
    """
    lives: dict[int, list[tuple[int, int]]] = {}
    for number, frame in enumerate(frames):
        for identity, partner in zip(frame.objects.ids.tolist(), frame.objects.partner.tolist(), strict=True):
            lives.setdefault(identity, []).append((number, partner))
    worst = sorted(lives, key=lambda i: -_trouble(lives[i]))[:rows]
    left, thickness = 90, 11
    scale = (WIDTH - left - 20) / max(len(frames), 1)
    shapes = []
    for line, identity in enumerate(sorted(worst, key=lambda i: lives[i][0])):
        y = 6 + line * (thickness + 3)
        shapes.append(_text(left - 8, y + 9, f"object {identity}", "end", 10))
        for first, last, partner in _runs(lives[identity]):
            fill = MISSED if partner == NOBODY else TRACK_COLOURS[partner % len(TRACK_COLOURS)]
            tip = f"frames {first + 1} to {last + 1}: " + ("missed" if partner == NOBODY else f"track {partner}")
            shapes.append(
                f'<rect x="{left + first * scale:.1f}" y="{y}" width="{(last - first + 1) * scale:.1f}" '
                f'height="{thickness}" fill="{fill}"><title>{tip}</title></rect>'
            )
    bottom = 6 + len(worst) * (thickness + 3)
    shapes.append(_text(left, bottom + 12, "frame 1", size=10))
    shapes.append(_text(WIDTH - 20, bottom + 12, f"frame {len(frames)}", "end", 10))
    return svg(bottom + 20, shapes)


def _short(label: str) -> str:
    """Names of sequences differ at their ends."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST // 3]}\u2026{label[-(LONGEST - LONGEST // 3 - 1) :]}"


def colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def svg(height: float, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" font-size="13">{"".join(shapes)}</svg>'


def _trouble(life: list[tuple[int, int]]) -> int:
    """Frames missed and changes of track."""
    tracks = [partner for _, partner in life if partner != NOBODY]
    switches = sum(a != b for a, b in pairwise(tracks))
    return sum(partner == NOBODY for _, partner in life) + 10 * switches


def _runs(life: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """First frame, last frame and track of the stretches without a change."""
    runs: list[tuple[int, int, int]] = []
    for number, partner in life:
        if runs and runs[-1][2] == partner and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number, partner)
        else:
            runs.append((number, number, partner))
    return runs


def _legend(names: Sequence[str], x: float) -> str:
    entries = []
    for k, name in enumerate(names):
        entries.append(_bar(x, 8 + 18 * k, 12, 12, colour(k)))
        entries.append(_text(x + 18, 18 + 18 * k, name))
    return "".join(entries)


def _bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" fill="{fill}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 0, bold: bool = False) -> str:
    style = f' text-anchor="{anchor}"' if anchor != "start" else ""
    style += f' font-size="{size}"' if size else ""
    style += ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(text)}</text>'
