"""Who is in the street: road users drawn from the seed and set on their paths."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from camtrack_core.datasets.drive import variety
from camtrack_core.datasets.drive.mesh import Mesh
from camtrack_core.datasets.drive.paths import Network, Path
from camtrack_core.datasets.drive.people import POSES, cyclist, pedestrian
from camtrack_core.datasets.drive.scenery import palette
from camtrack_core.datasets.drive.street import CITY, MOTORWAY, SUBURB, Street, centre
from camtrack_core.datasets.drive.traffic import CYCLE, DRIVER, PARKED, WALKER, Fleet
from camtrack_core.datasets.drive.vehicles import BUS, CARS, VANS, body_colour, truck, vehicle
from camtrack_core.geometry.boxes import Floats

CLASS_NAMES = ("car", "van", "truck", "bus", "pedestrian", "cyclist")
CAR, VAN, TRUCK, BUS_CLASS, PEDESTRIAN, CYCLIST = range(6)


@dataclass(frozen=True)
class Model:
    """A kind of road user: its class, the library's mesh of each pose, and its size (length, width, height)."""

    class_id: int
    poses: tuple[int, ...]
    size: Floats
    stride: float  # metres travelled in a full cycle of poses


@functools.cache
def models(varied: bool) -> tuple[tuple[Model, ...], tuple[Mesh, ...]]:
    """The usual kinds of road users or, where they are `varied`, many; and the meshes that their poses index."""
    result: list[Model] = []
    meshes: list[Mesh] = []

    def add(class_id: int, poses: list[Mesh], stride: float = 1.0) -> None:
        low = np.min([m.bounds()[0] for m in poses], axis=0)
        high = np.max([m.bounds()[1] for m in poses], axis=0)
        size = np.array([*(2 * np.maximum(-low, high))[:2], high[2]])  # symmetric about the origin
        result.append(Model(class_id, tuple(range(len(meshes), len(meshes) + len(poses))), size, stride))
        meshes.extend(poses)

    for body in CARS:
        add(CAR, [vehicle(body)])
    for body in VANS:
        add(VAN, [vehicle(body)])
    add(TRUCK, [truck()])
    add(TRUCK, [truck(10.5, 3.8)])
    add(TRUCK, [truck(6.6, 3.0, 2.3)])
    add(BUS_CLASS, [vehicle(BUS)])
    for bag in (False, True):
        add(PEDESTRIAN, [pedestrian(pose, bag) for pose in range(POSES)], 1.5)
    add(CYCLIST, [cyclist(pose) for pose in range(POSES)], 4.5)
    if varied:
        for class_id, bodies in ((CAR, variety.CARS), (VAN, variety.VANS), (BUS_CLASS, variety.BUSES)):
            for body in bodies:
                add(class_id, [vehicle(body)])
        for mesh in variety.trucks():
            add(TRUCK, [mesh])
        for poses in variety.people():
            add(PEDESTRIAN, poses, 1.5)
        for poses in variety.cycles():
            add(CYCLIST, poses, 4.5)
    return tuple(result), tuple(meshes)


def colours(rng: np.random.Generator, class_id: int) -> Floats:
    """A palette (slots, 3) for a road user."""
    skin = np.array([0.22, 0.32, 0.5]) * rng.uniform(0.2, 1.0)
    cloth = [rng.uniform(0.01, 0.5, 3) if rng.random() < 0.4 else np.full(3, rng.choice([0.02, 0.06, 0.2, 0.5]))
             for _ in range(3)]  # fmt: skip
    paint = body_colour(rng)
    if class_id in (TRUCK, VAN) and rng.random() < 0.6:
        paint = np.full(3, rng.uniform(0.5, 0.7))
    if class_id == BUS_CLASS:
        paint = np.array([[0.05, 0.08, 0.4], [0.1, 0.35, 0.5], [0.4, 0.2, 0.05], [0.6, 0.6, 0.6], [0.1, 0.25, 0.06]])[
            rng.integers(5)
        ]
    cargo = np.full(3, rng.uniform(0.45, 0.7)) if rng.random() < 0.7 else body_colour(rng)
    return palette(
        paint=paint, cargo=cargo if class_id == TRUCK else cloth[2], skin=skin, hair=skin * 0.15, shirt=cloth[0],
        trousers=cloth[1] * 0.5, metal=np.full(3, rng.uniform(0.08, 0.4)), glass=np.full(3, rng.uniform(0.006, 0.03)),
        tail=np.array([0.015, 0.015, rng.uniform(0.15, 0.35)]), plate=rng.choice([0.5, 0.35]) * np.ones(3),
    )  # fmt: skip


class Crowd:
    """Fills a street; row 0 of the fleet is the vehicle that carries the camera, if one does."""

    def __init__(self, rng: np.random.Generator, street: Street, table: tuple[Model, ...], density: float, low: float,
                 high: float) -> None:  # fmt: skip
        self.rng, self.street, self.table, self.density = rng, street, table, density
        crossings = street.crossings(low, high)
        self.network = Network(street, low, high, rng.uniform(0, CYCLE, len(crossings)))
        self.fleet = Fleet()
        self.waits: list[float] = []
        self.by_class = [[k for k, m in enumerate(table) if m.class_id == c] for c in range(len(CLASS_NAMES))]
        self.cruise = {CITY: 12.0, SUBURB: 12.5, MOTORWAY: 27.0}[street.kind] * rng.uniform(0.85, 1.15)

    def _add(self, path: Path, kind: int, start: float, desired: float, model: int, left: float = 0.0,
             right: float = 0.0, wait: float = 0.0) -> None:  # fmt: skip
        length, width, _ = self.table[model].size
        self.fleet.add(path, kind, start, desired, model, length, width, left, right)
        self.waits.append(wait)

    def _vehicle(self) -> int:
        shares = [0.72, 0.12, 0.1, 0.06] if self.street.kind != MOTORWAY else [0.7, 0.1, 0.17, 0.03]
        return int(self.rng.choice(self.by_class[self.rng.choice(4, p=shares)]))

    def _rider(self) -> int:
        riders = self.by_class[CYCLIST]
        return riders[0] if len(riders) == 1 else int(self.rng.choice(riders))  # one needs no draw

    def _on_crossing(self, x: float, margin: float) -> bool:
        gaps = np.abs(self.network.crossings - x)
        return bool(len(gaps)) and bool(gaps.min() < margin)

    def ego(self, lane: int, x: float) -> None:
        """The camera's own vehicle, which runs along x."""
        street = self.street
        path = self.network.straight(street.lane(lane, 1), 1, street.stop)
        self._add(path, DRIVER, x - self.network.low, self.cruise, self.by_class[CAR][0])

    def drivers(self) -> None:
        """Moving traffic in every lane of the main road and of the crossing roads."""
        rng, street, network = self.rng, self.street, self.network
        for direction in (1, -1):
            for lane in range(street.lanes):
                d = street.lane(lane, direction)
                left = lane * street.lane_width if street.kind != CITY or street.lanes > 1 else 0.0
                right = (street.lanes - 1 - lane) * street.lane_width
                straight = network.straight(d, direction, street.stop)
                taken = [self.fleet.start[0]] if self.fleet.start and direction == 1 and self._ego_lane(d) else []
                headway = (28.0 if street.kind != MOTORWAY else 55.0) / self.density
                along = rng.uniform(5, headway)
                while along < network.high - network.low - 5:
                    x = network.low + along if direction > 0 else network.high - along
                    model = self._vehicle()
                    if not self._on_crossing(x, street.stop + 8) and all(abs(along - s) > 18 for s in taken):
                        speed = self.cruise * rng.uniform(0.8, 1.2) * (1 + 0.06 * (street.lanes - 1 - lane))
                        path, wait = straight, 0.0
                        turner = rng.random() < 0.25 and self.table[model].size[0] < 7
                        if turner and lane in (0, street.lanes - 1) and len(network.crossings):
                            path, wait = self._turning(d, direction, x, lane, straight)
                        free = path is straight
                        self._add(path, DRIVER, along, speed, model, left * free, right * free, wait)
                    along += self.table[model].size[0] + 9 + rng.exponential(headway)
        for crossing in range(len(network.crossings)):
            for out in (1, -1):
                for lane in range(street.cross_lanes):
                    along = rng.uniform(0, 40)
                    path = network.crossing_road(crossing, out, lane)
                    while along < 130:
                        model = self._vehicle()
                        self._add(path, DRIVER, along, self.cruise * rng.uniform(0.7, 1), model)
                        along += self.table[model].size[0] + 8 + rng.exponential(35 / self.density)

    def _ego_lane(self, d: float) -> bool:
        start = self.fleet.points[0][0]
        return abs(start[1] - centre(self.street, start[0]) - d) < 1.0

    def _turning(self, d: float, direction: int, x: float, lane: int, straight: Path) -> tuple[Path, float]:
        """The next crossing's turn, with the place at which a left turn waits; straight where there is none."""
        ahead = [k for k, at in enumerate(self.network.crossings) if direction * (at - x) > 45]
        if not ahead:
            return straight, 0.0
        crossing = ahead[0] if direction > 0 else ahead[-1]
        left = lane == 0 and (self.street.lanes == 1 or self.rng.random() < 0.5) and self.rng.random() < 0.5
        if not left and lane != self.street.lanes - 1:
            return straight, 0.0
        path = self.network.turn(d, direction, crossing, left)
        into = self.network.crossings[crossing] - direction * (self.street.cross_half + 2.0)
        begin = self.network.low if direction > 0 else self.network.high
        return path, abs(into - begin) if left else 0.0

    def parked(self) -> None:
        """Cars at the kerb."""
        rng, street = self.rng, self.street
        if street.parking == 0:
            return
        share = rng.uniform(0.2, 0.95)
        for side in (-1, 1):
            for x in np.arange(self.network.low, self.network.high, 6.2):
                model = int(rng.choice(self.by_class[CAR if rng.random() < 0.88 else VAN]))
                if rng.random() < share and not self._on_crossing(x, street.stop + 8):
                    d = side * (street.half - street.parking / 2 + rng.uniform(-0.1, 0.15))
                    path = standing(self.network, d, -side, x)
                    self._add(path, PARKED, 2.0 + rng.uniform(-0.3, 0.3), 1e-3, model)

    def walkers(self) -> None:
        """Pedestrians on the pavements and on the zebras."""
        rng, street, network = self.rng, self.street, self.network
        if street.kind == MOTORWAY:
            return
        gap = (16.0 if street.kind == CITY else 45.0) / self.density
        for side in (-1, 1):
            x = network.low + rng.exponential(gap)
            while x < network.high:
                group = 1 + int(rng.random() < 0.25)
                direction = int(rng.choice([-1, 1]))
                speed = rng.uniform(0.9, 1.6)
                for member in range(group):
                    inset = min(0.7 + rng.uniform(0, 0.8 * street.sidewalk) + 0.7 * member, street.sidewalk)
                    if not self._on_crossing(x, street.cross_half + 1):
                        along = x - network.low if direction > 0 else network.high - x
                        path = network.footway(side, inset, direction)
                        model = int(rng.choice(self.by_class[PEDESTRIAN]))
                        self._add(path, WALKER, along, speed if rng.random() < 0.9 else 0.01, model)
                x += rng.exponential(gap)
        for crossing in range(len(network.crossings)):
            for end in (-1, 1):
                for side in (-1, 1):
                    for k in range(rng.poisson(1.3 * self.density)):
                        path = network.zebra(crossing, end, side, 0.8 * (k % 3) - 0.8)
                        model = int(rng.choice(self.by_class[PEDESTRIAN]))
                        self._add(path, WALKER, rng.uniform(0, 0.6), rng.uniform(1.1, 1.7), model)

    def cyclists(self) -> None:
        """Riders on the strip beside the lanes."""
        rng, street = self.rng, self.street
        if street.kind == MOTORWAY:
            return
        for direction in (1, -1):
            d = -direction * (street.half - street.parking - street.edge * 0.45)
            path = self.network.straight(d, direction, street.stop)
            along = rng.exponential(70 / self.density)
            while along < self.network.high - self.network.low - 5:
                x = self.network.low + along if direction > 0 else self.network.high - along
                if not self._on_crossing(x, street.stop + 4):
                    self._add(path, DRIVER, along, rng.uniform(3.5, 6.5), self._rider())
                along += 6 + rng.exponential(70 / self.density)


def standing(network: Network, d: float, direction: int, x: float) -> Path:
    """A short path for someone who stays at x."""
    points = network.along(d, direction, x - 2 * direction, x + 6 * direction)[::2]
    return points, []
