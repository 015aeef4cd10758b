"""Generated drives: a street seen from a moving vehicle or from the roadside, with exact labels.

Rendering: models are rasterised by a small z-buffer compiled by numba (`raster`), every pixel is then coloured
from the place it sees (`shade`) and the image passes through a simple sensor (`sensor`).
Of the libraries that install from pip alone, Panda3D 1.10's software renderer is fast (118 frames/s for 60 lit
balls at 640x360 on one core) but needs the system's libX11, lights vertices instead of pixels and has no buffer
of ids; VTK 9.7 needs a system EGL and reached 6 frames/s on the same scene without a GPU. Hence the own one:
12 to 18 frames/s at 640x360 on both threads of one core (`benchmarks/drive.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pydantic

from camtrack_core.datasets.drive import raster, scenery, shadow
from camtrack_core.datasets.drive.light import draw_light, noise_tile
from camtrack_core.datasets.drive.mesh import rotation
from camtrack_core.datasets.drive.population import CLASS_NAMES, Crowd, colours, models
from camtrack_core.datasets.drive.sensor import Sensor
from camtrack_core.datasets.drive.shade import shade
from camtrack_core.datasets.drive.street import MOTORWAY, centre, draw_street, heading
from camtrack_core.datasets.drive.traffic import WARM_UP, simulate
from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers, clip
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose

START_NS = 1_000_000_000
SUPERSAMPLING = 1.25
LABEL_RANGE = 120.0  # metres from the camera
USER_RANGE = 170.0  # road users are drawn a little beyond where they are labelled
DRAW_RANGE = 260.0
SHADOW_RANGE = 75.0
COARSE_RANGE = 40.0
MOST_FACES = 400_000
STRETCH, SLOPE = 1, 2  # name the draws of sizes and slopes among those of a seed
RIG = {"front": 0.0, "front_left": 60.0, "back_left": 120.0, "back": 180.0, "back_right": -120.0, "front_right": -60.0}
RIG_FIELD_OF_VIEW = 70.0  # degrees; neighbours of the rig share 10 of them


class DriveConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What to generate; everything not said here is drawn from the seed.

    Attributes:
        seed: decides street, traffic, light and camera.
        frames: length of the sequence.
        frame_rate: frames a second.
        width, height: image size in pixels.
        camera: on a vehicle or fixed at the roadside; None draws one of them.
        view: degrees by which the camera is turned to the left; it goes to that side of the vehicle. RIG holds those of
            six cameras that see all around.
        field_of_view: horizontal, degrees; None draws it.
        density: how full the street is, as a factor on the usual; None draws it.
        kinds: "few", the usual road users, or "many": 31 bodies of vehicles, 6 kinds of people and 5 of riders.
        slope: the street rises or falls by up to this share of the way, in a straight line, and by half of that from
            side to side; the fixed frame stays upright.
        size_spread: by which share length, width and height of everybody differ from those of the body, each by itself.
    """

    seed: int = pydantic.Field(ge=0)
    frames: int = pydantic.Field(300, ge=1, le=4000)
    frame_rate: float = pydantic.Field(20.0, ge=1, le=60)
    width: int = pydantic.Field(640, ge=64, le=3840)
    height: int = pydantic.Field(360, ge=64, le=2160)
    camera: Literal["vehicle", "roadside"] | None = None
    view: float = pydantic.Field(0.0, ge=-180, le=180)
    field_of_view: float | None = pydantic.Field(None, ge=20, le=120)
    density: float | None = pydantic.Field(None, gt=0, le=4)
    kinds: Literal["few", "many"] = "few"
    slope: float = pydantic.Field(0.0, ge=0, le=0.1)
    size_spread: float = pydantic.Field(0.0, ge=0, le=0.3)


class Drive:
    """A generated sequence of frames with boxes in the image and in space.

    Labels hold everybody who overlaps the image within LABEL_RANGE. Boxes are those of the model's projected
    vertices; `visible` is the share of the pixels that an object would cover alone that it does cover, times the
    share of its unclipped box that lies inside the image.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, config: DriveConfig) -> None:
        self.config = config
        self.name = f"drive-{config.seed:06d}" + (f"-view{config.view:g}" if config.view else "")
        rng = np.random.default_rng(config.seed)
        self._slope = self._draw_slope()
        self._mount(rng)
        self.street = draw_street(rng)
        self.light = draw_light(rng)
        self._tile = noise_tile(rng)
        self._populate(rng)
        self._aim(rng)
        self._build(rng)
        self._sensor = Sensor(rng, config.width, config.height, self.light)

    def __len__(self) -> int:
        return self.config.frames

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self)):
            yield self.frame(index)

    def _mount(self, rng: np.random.Generator) -> None:
        """The camera's kind and lens."""
        config = self.config
        self.kind = config.camera or str(rng.choice(["vehicle", "roadside"], p=[0.6, 0.4]))
        drawn = rng.uniform(50, 100) if self.kind == "vehicle" else rng.uniform(45, 80)
        self.camera = Camera.from_field_of_view(config.width, config.height, config.field_of_view or drawn)

    def _populate(self, rng: np.random.Generator) -> None:
        """Road users and their motion."""
        config, street = self.config, self.street
        seconds = config.frames / config.frame_rate
        pace = 32.0 if street.kind == MOTORWAY else 15.0
        ahead = pace * seconds * (self.kind == "vehicle")
        reach = pace * (seconds * 0.7 + WARM_UP * 0.5) + 100
        self.table, self._meshes = models(config.kinds == "many")
        density = config.density or float(rng.choice([0.5, 0.9, 1.4, 2.0], p=[0.25, 0.35, 0.25, 0.15]))
        self.low, self.high = -130.0, ahead + 280.0
        crowd = Crowd(rng, street, self.table, density, self.low - reach, self.high + reach)
        if self.kind == "vehicle":
            crowd.ego(int(rng.integers(street.lanes)), -pace * WARM_UP * 0.5)
        crowd.drivers()
        crowd.parked()
        crowd.walkers()
        crowd.cyclists()
        self.motion = simulate(crowd.fleet, np.array(crowd.waits), config.frames, config.frame_rate)
        self.class_ids = np.array([self.table[m].class_id for m in self.motion.model])
        size = np.array([self.table[m].size for m in self.motion.model])
        person = self.class_ids == CLASS_NAMES.index("pedestrian")
        spread = np.where(person, rng.uniform(0.85, 1.1, len(size)), rng.uniform(0.95, 1.05, len(size)))
        child = person & (rng.random(len(size)) < 0.06)
        self.scale = np.where(child, 0.68, spread)[:, None] * self._stretch(len(size))
        self.size = size * self.scale
        used = [self.table[m] for m in self.motion.model]
        self._stride = np.array([m.stride for m in used])
        self._first_pose, self._poses = np.array([(m.poses[0], len(m.poses)) for m in used]).T
        self._phase = rng.random(len(used))
        self._palettes = np.array([colours(rng, c) for c in self.class_ids])

    def _stretch(self, count: int) -> Floats:
        """(N, 3) factors along length, width and height; of draws of their own, so that the street stays the same."""
        rng = np.random.default_rng((self.config.seed, STRETCH))
        return 1 + rng.uniform(-1, 1, (count, 3)) * self.config.size_spread

    def _build(self, rng: np.random.Generator) -> None:
        """Scenery and the library of meshes."""
        named = scenery.models(rng)
        row = {name: len(self._meshes) + k for k, name in enumerate(named)}
        self.library = raster.library([*self._meshes, *named.values()])
        props = scenery.props(rng, self.street, self.low - 60, self.high + 150)
        if self.kind == "roadside":  # nobody mounts a camera inside a tree
            slender = ("bush", "lamp", "sign", "signal", *(f"tree{k}" for k in range(scenery.TREES)))
            props = [p for p in props if p.model not in slender or np.hypot(*(p.position[:2] - self._post)) > 9]
        everyone = len(self.class_ids)
        self._fixed = raster.Instances(
            np.concatenate([np.zeros(everyone, np.int64), [row[p.model] for p in props]]),
            np.concatenate([np.zeros((everyone, 3)), [p.position for p in props]]),
            np.concatenate([np.zeros(everyone), [p.yaw for p in props]]),
            np.concatenate([self.scale, [p.scale for p in props]]),
            np.concatenate([self._palettes, [p.palette for p in props]]),
            rng.random(everyone + len(props)),
            np.zeros(everyone + len(props)),
        )
        twin = [row.get(p.model + scenery.DISTANT, row[p.model]) for p in props]
        self._distant = np.concatenate([np.zeros(everyone, np.int64), twin])
        total = everyone + len(props)
        width, height = round(self.config.width * SUPERSAMPLING), round(self.config.height * SUPERSAMPLING)
        self._buffers = raster.buffers(width, height, MOST_FACES)
        self._extent, self._counts = np.zeros((total, 4)), np.zeros((2, total), np.int64)
        self._canvas = np.zeros((height, width, 3), np.uint8)

    def _aim(self, rng: np.random.Generator) -> None:
        """Where the camera is mounted and where it looks; the shake of every frame."""
        street, frames = self.street, self.config.frames
        if self.kind == "vehicle":
            high = rng.random() < 0.15
            self._height = rng.uniform(2.0, 3.0) if high else rng.uniform(1.2, 1.8)
            pitch, yaw = rng.uniform(-1, 5), rng.normal(0, 1.5)
            shake = rng.uniform(0.05, 0.35)
        else:
            self._height = rng.uniform(3.5, 8.0)
            side = rng.choice([-1, 1])
            overhead = rng.random() < 0.35
            d = rng.uniform(-0.6, 0.6) * street.half if overhead else side * (street.half + rng.uniform(0.5, 2.0))
            x = rng.uniform(-10, 10)
            self._post = np.array([x, float(centre(street, x)) + d])
            pitch = rng.uniform(6, 20)
            yaw = np.degrees(float(heading(street, x))) + (rng.normal(0, 8) if overhead else -side * rng.uniform(5, 40))
            yaw += 180.0 * (rng.random() < 0.4) if overhead else 0.0
            shake = rng.uniform(0, 0.04)
        self._angles = np.radians([rng.normal(0, 0.6), pitch, yaw])  # roll, pitch, yaw
        time = np.arange(frames) / self.config.frame_rate
        waves = rng.uniform(0.6, 4.0, (3, 4)), rng.uniform(0, 6.28, (3, 4))
        swing = np.sin(2 * np.pi * waves[0][..., None] * time + waves[1][..., None]).mean(1)
        self._shake = np.radians(shake) * swing * np.array([0.6, 1.0, 0.3])[:, None]

    def poses(self, index: int) -> tuple[Pose, Pose]:
        """Poses of the vehicle (or of the post) and of the camera in the fixed frame."""
        body, camera = self._road_poses(index)
        return (self._slope @ body, self._slope @ camera) if self.config.slope else (body, camera)

    def _road_poses(self, index: int) -> tuple[Pose, Pose]:
        """The same in the frame of the road, which is drawn as a plane."""
        roll, pitch, yaw = self._angles + self._shake[:, index]
        view = float(np.radians(self.config.view))
        if self.kind == "vehicle":
            body = Pose(
                rotation(2, float(self.motion.yaw[index, 0])),
                np.array([*self.motion.position[index, 0], 0.0]),
            )
            mount = rotation(2, view) @ np.array([0.6, 0.0, self._height])
        else:
            body, mount = Pose(np.eye(3), np.array([*self._post, 0.0])), np.array([0.0, 0.0, self._height])
        turn = rotation(2, yaw + view) @ rotation(1, pitch) @ rotation(0, roll) @ OPTICAL_IN_VEHICLE
        return body, body @ Pose(turn, mount)

    def boxes3d(self, index: int) -> Boxes3D:
        """Everybody's boxes in the fixed frame, in the order of ids, the camera's own vehicle included."""
        motion, half = self.motion, self.size[:, 2] / 2
        here = np.column_stack([motion.position[index], half])
        after = np.column_stack([motion.position[index + 1], half])
        boxes = Boxes3D(here, self.size, motion.yaw[index], (after - here) * self.config.frame_rate)
        return self._on_slope(boxes) if self.config.slope else boxes

    def _draw_slope(self) -> Pose:
        """Pose of the road's plane in the fixed frame."""
        rng = np.random.default_rng((self.config.seed, SLOPE))
        along, across = np.arctan(rng.uniform(-1, 1, 2) * self.config.slope * [1.0, 0.5])
        return Pose(rotation(1, -along) @ rotation(0, across), np.zeros(3))

    def _on_slope(self, boxes: Boxes3D) -> Boxes3D:
        """Boxes on the road, upright in the fixed frame."""
        turn = self._slope.rotation
        heading = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw), np.zeros(len(boxes))], 1) @ turn.T
        yaw = np.arctan2(heading[:, 1], heading[:, 0])
        return Boxes3D(boxes.centre @ turn.T, boxes.size, yaw, boxes.velocity @ turn.T)

    def _instances(self, index: int) -> raster.Instances:
        """Everything as it stands at a frame: road users first, in the order of ids."""
        motion, fixed = self.motion, self._fixed
        everyone = len(self.class_ids)
        mesh, position = fixed.mesh, fixed.position.copy()
        yaw, glow = fixed.yaw.copy(), fixed.glow.copy()
        away = np.linalg.norm(position[:, :2] - self._road_poses(index)[1].translation[:2], axis=1)
        mesh = np.where(away > COARSE_RANGE, self._distant, mesh)
        turn = motion.travelled[index] / (self._stride * self.scale[:, 0]) + self._phase
        mesh[:everyone] = self._first_pose + (turn * self._poses).astype(int) % self._poses
        position[:everyone, :2] = motion.position[index]
        yaw[:everyone] = motion.yaw[index]
        glow[:everyone] = motion.braking[index]
        return fixed._replace(mesh=mesh, position=position, yaw=yaw, glow=glow)

    def frame(self, index: int) -> Frame:
        """One frame, drawn."""
        _, drawn_from = self._road_poses(index)
        body, camera_pose = self.poses(index)
        instances = self._instances(index)
        labels, kept = self._draw(instances, drawn_from)
        view = self._view(drawn_from)
        shade(view, self.library, instances, self._buffers, self.light, self.street, self._tile, self._sensor.tone,
              self._canvas)  # fmt: skip
        image = self._sensor.expose(self._canvas, index)
        time_ns = START_NS + round(index * 1e9 / self.config.frame_rate)
        return Frame(time_ns, image, labels, camera=self.camera, camera_pose=camera_pose, ego_pose=body,
                     boxes3d=self.boxes3d(index)[kept])  # fmt: skip

    def labels(self, index: int) -> Labels:
        """The labels of a frame without its image: about a quarter of the frame's time."""
        _, drawn_from = self._road_poses(index)
        return self._draw(self._instances(index), drawn_from)[0]

    def _view(self, pose: Pose) -> raster.View:
        k = self.camera.intrinsics * SUPERSAMPLING
        right, down, forward = (raster.vector(pose.rotation[:, axis]) for axis in range(3))
        return raster.View(right, down, forward, raster.vector(pose.translation), k[0, 0], k[0, 2], k[1, 2])

    def _draw(self, instances: raster.Instances, pose: Pose) -> tuple[Labels, Integers]:
        """Fills the buffers; returns the labels and the ids of those in them."""
        everyone = len(self.class_ids)
        view = self._view(pose)
        distance = np.linalg.norm(instances.position[:, :2] - pose.translation[:2], axis=1)
        drawn = distance < DRAW_RANGE
        drawn[:everyone] &= distance[:everyone] < USER_RANGE
        drawn[0] &= self.kind != "vehicle"
        order = np.argsort(distance, kind="stable")
        order = order[drawn[order]]
        alone, seen = self._counts
        raster.draw(self.library, instances, order, view, self._buffers, self._extent, alone, seen)
        near = order[distance[order] < SHADOW_RANGE]
        self._buffers.shadow[:] = 0
        if max(self.light.sunlight) > 0:
            shadow.draw_shadows(self.library, instances, near, self.light.sun, view, self._buffers)
        users = near[near < everyone]
        shadow.draw_contacts(instances, users, self.size[users, :2] / 2, view, self._buffers)
        return self._labels(alone[:everyone], seen[:everyone], distance[:everyone])

    def _labels(self, alone: Integers, seen: Integers, distance: Floats) -> tuple[Labels, Integers]:
        whole = self._extent[: len(alone)] / SUPERSAMPLING
        kept = np.flatnonzero((alone > 0) & (distance < LABEL_RANGE))
        whole = whole[kept]
        xyxy = clip(whole, self.config.width, self.config.height)
        inside = np.prod(xyxy[:, 2:] - xyxy[:, :2], 1) / np.prod(whole[:, 2:] - whole[:, :2], 1)
        visible = np.clip(seen[kept] / alone[kept] * inside, 0, 1)
        return Labels(kept, xyxy, self.class_ids[kept], visible), kept


__all__ = ["CLASS_NAMES", "RIG", "RIG_FIELD_OF_VIEW", "Drive", "DriveConfig"]
