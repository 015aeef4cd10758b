"""More kinds of road users than every drive has: bodies between and beyond the usual ones, on more or less air."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from camtrack_core.datasets.drive.mesh import Mesh, stretched
from camtrack_core.datasets.drive.people import (
    POSES,
    cyclist,
    motor_scooter,
    motorcycle,
    pedestrian,
    with_coat,
    with_pram,
    with_suitcase,
)
from camtrack_core.datasets.drive.vehicles import (
    BUS,
    DELIVERY,
    HATCHBACK,
    MINIVAN,
    PICKUP,
    SEDAN,
    SUV,
    WAGON,
    Body,
    Curve,
    truck,
)


def _between(first: Curve, second: Curve, share: float) -> Curve:
    """A share of the way from one line to another."""
    places = sorted({place for place, _ in (*first, *second)})
    lines = [np.interp(places, *np.array(line).T) for line in (first, second)]
    return tuple(zip(places, ((1 - share) * lines[0] + share * lines[1]).tolist(), strict=True))


def _bent(body: Body, toward: Body, share: float) -> Body:
    """The body with lines that are a share of the way to another's, its windows where they are."""
    return replace(
        body,
        top=_between(body.top, toward.top, share),
        belt=_between(body.belt, toward.belt, share),
        plan=_between(body.plan, toward.plan, share),
    )


def _sized(body: Body, length: float, width: float, height: float, clearance: float, wheel_radius: float) -> Body:
    return replace(body, length=length, width=width, height=height, clearance=clearance, wheel_radius=wheel_radius)


CARS = (
    _sized(SEDAN, 4.5, 1.85, 1.32, 0.12, 0.33),  # coupe
    _sized(SEDAN, 5.2, 1.92, 1.5, 0.15, 0.35),  # limousine
    _sized(_bent(SEDAN, HATCHBACK, 0.4), 4.35, 1.78, 1.47, 0.15, 0.31),  # short saloon
    _sized(_bent(HATCHBACK, MINIVAN, 0.35), 3.5, 1.65, 1.55, 0.15, 0.28),  # city car
    _sized(HATCHBACK, 3.9, 1.73, 1.44, 0.13, 0.3),  # compact car
    _sized(_bent(HATCHBACK, SUV, 0.6), 4.35, 1.82, 1.6, 0.22, 0.34),  # crossover
    _sized(SUV, 5.1, 2.0, 1.9, 0.3, 0.4),  # large SUV
    _sized(_bent(SUV, MINIVAN, 0.3), 4.4, 1.9, 1.88, 0.34, 0.4),  # off-roader
    _sized(WAGON, 4.95, 1.88, 1.46, 0.13, 0.34),  # estate
    _sized(_bent(WAGON, MINIVAN, 0.4), 4.5, 1.82, 1.65, 0.16, 0.32),  # high estate
    _sized(PICKUP, 5.8, 2.0, 1.95, 0.36, 0.42),  # pickup with a long bed
)
VANS = (
    _sized(_bent(MINIVAN, DELIVERY, 0.4), 4.4, 1.8, 1.85, 0.18, 0.31),
    _sized(DELIVERY, 6.4, 2.08, 2.8, 0.22, 0.36),
    _sized(_bent(DELIVERY, MINIVAN, 0.25), 5.3, 1.98, 2.1, 0.2, 0.34),
)
BUSES = (_sized(BUS, 9.2, 2.4, 3.0, 0.25, 0.45), _sized(BUS, 13.2, 2.55, 3.7, 0.35, 0.5))


def trucks() -> tuple[Mesh, ...]:
    """Box trucks, the last one as long as an articulated lorry."""
    return truck(5.6, 2.7, 2.1), truck(7.3, 3.2, 2.4), truck(12.0, 4.0, 2.55), truck(16.0, 4.0, 2.55)


def people() -> tuple[list[Mesh], ...]:
    """The poses of each kind of pedestrian."""
    usual = [pedestrian(pose) for pose in range(POSES)]
    stout = partial(stretched, factors=(1.3, 1.2, 1.0))
    return tuple([change(mesh) for mesh in usual] for change in (stout, with_coat, with_suitcase, with_pram))


def cycles() -> tuple[list[Mesh], ...]:
    """The poses of each kind of rider: upright, bent over, on a motor scooter and on a motorcycle."""
    upright, bent = ([cyclist(pose, lean) for pose in range(POSES)] for lean in (0.15, 0.85))
    return upright, bent, [motor_scooter()], [motorcycle()]
