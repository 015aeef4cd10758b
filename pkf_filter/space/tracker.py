"""The tracker around PKF in space: predict to the measurement's time, weigh, update, existence, births and deaths.

Existence follows joint integrated probabilistic data association (D. Musicki and R. Evans, IEEE Trans. Aerospace and
Electronic Systems 40(3), 2004): every track carries the probability that it is an object at all, which takes part in
the association and follows from it. It decides on births, on what is shown and on deaths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Boxes2D, Detections3D, Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D, TrackStates
from pkf_filter.association.weights import AssociationWeights, association_weights
from pkf_filter.filtering.estimators import with_resolved_identities
from pkf_filter.filtering.linearised import gaussian, linearised_update
from pkf_filter.filtering.update import NONE, SPREADS
from pkf_filter.image.tracker import TimeError, best
from pkf_filter.life import existence as life
from pkf_filter.life import space_kernels as kernels
from pkf_filter.life import track_life
from pkf_filter.space import imm as interacting
from pkf_filter.space import models as world
from pkf_filter.space.config import SensorModel, WorldConfig
from pkf_filter.space.sensors import ImageView, Linearisation, SpaceView, View
from pkf_filter.space.state import (
    MAX_CLASSES,
    WorldState,
    class_probabilities,
    motions_after,
    no_tracks,
    true_detections,
)

SECOND = 1_000_000_000  # nanoseconds
MAX_STATES = 2.0**18  # of exact association: a component above some 10 ms is approximated
MAX_BUFFERED = 256  # measurements that late ones can be sorted into
UNSEEN = 0.5  # seconds after which a track coasts that no sensor has in view
AGREEMENT_RATE = 0.05  # weight of the newest measurement


@dataclass
class _Entry:
    """One measurement and the tracks just before it.

    `evidence` (M,) is what the scores say for each detection, `ids` are those of the tracks that its rows have started,
    `agreement` is the share of the shown tracks in view, hidden ones aside, that it confirms, `offsets` its mean
    innovations, None without.
    """

    time_ns: int
    sensor: str
    view: View
    evidence: Floats
    before_ns: int | None
    before: WorldState
    ids: dict[int, int] = field(default_factory=dict)
    agreement: float = 1.0
    offsets: Floats | None = None


class WorldTracker:
    """Detections of any number of sensors to tracks in one fixed frame.

    Attributes:
        class_names: what class ids mean, in the order in which `class_id` was asked for them.
        dropped: detections so far that no track can be made of (not finite, of impossible size, of an unknown class,
            or beyond the MAX_BOXES of the highest scores in a frame) and that were left out.
        approximated: steps so far whose association was too ambiguous for exact weights.
        time_ns: stamp of the newest measurement, nanoseconds; None before the first.
        max_lag: seconds by which a measurement may be late; the configuration's, until somebody raises it.
        agreement: by sensor, the fading share of the confirmed tracks in its view that its detections find; low for a
            sensor whose pose is wrong.
        offsets: by sensor, (3,) the fading mean of the innovations in their deviations: along its axes x, y, z, or in
            the image to the right, down and in size; far from 0 for a sensor whose pose is slightly wrong.
    """

    def __init__(self, config: WorldConfig | None = None, sensors: Mapping[str, SensorModel] | None = None) -> None:
        self.config = config or WorldConfig()
        self.sensors = dict(sensors or {"": SensorModel()})
        self.max_lag = self.config.max_lag
        self.class_names: list[str] = []
        self.dropped = 0
        self.approximated = 0
        self._groups = np.zeros(0, np.int64)  # of the class names
        groups = self.config.groups()
        self._table = world.group_table(groups)
        self._moving = np.array([interacting.moving_at_first(group) for group in groups])
        self._change_rates = np.array([interacting.change_rate(group) for group in groups])
        self._modes = interacting.MODES if self._change_rates.any() else 0
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; their ids are not used again."""
        self.time_ns: int | None = None
        self.agreement = dict.fromkeys(self.sensors, 1.0)
        self.offsets: dict[str, Floats] = {name: np.zeros(3) for name in self.sensors}
        self._state = no_tracks(self._modes, len(self.sensors))
        self._entries: deque[_Entry] = deque()

    def class_id(self, name: str) -> int:
        """The id of a class name, a new one if need be; -1 when there are MAX_CLASSES already."""
        if name in self.class_names:
            return self.class_names.index(name)
        if len(self.class_names) == MAX_CLASSES:
            return -1
        self.class_names.append(name)
        self._groups = np.array([self.config.group_of(known) for known in self.class_names])
        return len(self.class_names) - 1

    def step(self, time_ns: int, detections: Detections3D, sensor: str = "", pose: Pose | None = None) -> Tracks3D:
        """Tracks at the newest time, after the detections of one frame of one sensor; an empty frame is a frame too.

        Args:
            time_ns: stamp of the detections, nanoseconds. One up to `max_lag` older than the newest is sorted in, as
                if it had come in time.
            detections: M detections in the fixed frame; unusable ones are counted in `dropped`.
            sensor: name of the sensor.
            pose: of the sensor (x forward) in the fixed frame, at `time_ns`; where it is not known no object counts as
                hidden or out of view.

        Raises:
            TimeError: `time_ns` is older than that.
            ConfigurationError: no sensor of that name.
        """
        return self._observe(time_ns, sensor, SpaceView(detections, self._sensor(sensor), pose))

    def step_image(self, time_ns: int, detections: Boxes2D, camera: Camera, pose: Pose, sensor: str = "") -> Tracks3D:
        """As `step`, for boxes in an image: they correct tracks in space, but start none.

        Args:
            time_ns: stamp of the image, nanoseconds.
            detections: M boxes in pixels.
            camera: that took the image.
            pose: of its optical frame in the fixed frame, at `time_ns`.
            sensor: name of the sensor.
        """
        return self._observe(time_ns, sensor, ImageView(detections, self._sensor(sensor), camera, pose))

    def predicted(self, time_ns: int) -> Tracks3D:
        """The tracks as they are expected at a time not before the newest measurement's; nothing is changed.

        Raises:
            TimeError: `time_ns` lies before it.
        """
        if self.time_ns is not None and time_ns < self.time_ns:
            raise TimeError(f"expected a time of at least {self.time_ns} ns, got {time_ns} ns")
        return self.as_tracks(self._at(self._published(), time_ns), time_ns)

    @property
    def state(self) -> WorldState:
        """All tracks after the newest measurement, also those that are not published; no step changes them."""
        return self._state

    def _sensor(self, name: str) -> SensorModel:
        if name not in self.sensors:
            raise ConfigurationError(f"expected one of the sensors {sorted(self.sensors)}, got '{name}'")
        return self.sensors[name]

    def _observe(self, time_ns: int, sensor: str, view: View) -> Tracks3D:
        usable = best(
            track_life.usable(view.measurable(), view.scores, view.class_ids, len(self.class_names)), view.scores
        )
        if len(usable) < len(view.scores):
            self.dropped += len(view.scores) - len(usable)
            view = view.rows(usable)
        later = self._later_than(time_ns)
        fresh, model = self._next_id, view.sensor
        evidence = kernels.evidence(view.scores, model.score_offset, model.score_slope)
        entry = _Entry(time_ns, sensor, view, evidence, self.time_ns, self._state, agreement=self.agreement[sensor])
        for each in [entry, *later]:
            self._process(each, fresh)
        self.agreement[sensor] += AGREEMENT_RATE * (entry.agreement - self.agreement[sensor])
        if entry.offsets is not None:
            self.offsets[sensor] = (1 - AGREEMENT_RATE) * self.offsets[sensor] + AGREEMENT_RATE * entry.offsets
        self._forget()
        assert self.time_ns is not None
        return self.as_tracks(self._published(), self.time_ns)

    # --- Late measurements

    def _later_than(self, time_ns: int) -> list[_Entry]:
        """The measurements newer than this stamp, after going back to the tracks before them."""
        if self.time_ns is None or time_ns >= self.time_ns:
            return []
        lag = (self.time_ns - time_ns) / SECOND
        later = [entry for entry in self._entries if entry.time_ns > time_ns]
        oldest = later[0].before_ns if later else None
        if lag > self.max_lag or not later or (oldest is not None and time_ns < oldest):
            raise TimeError(f"expected a stamp at most {self.max_lag:g} s older than the newest, got {lag:.3f} s")
        for _ in later:
            self._entries.pop()
        self.time_ns, self._state = later[0].before_ns, later[0].before
        return later

    def _forget(self) -> None:
        """Drop what no late measurement can reach any more."""
        assert self.time_ns is not None
        oldest = self.time_ns - self.max_lag * SECOND
        while len(self._entries) > MAX_BUFFERED or (len(self._entries) > 1 and self._entries[1].time_ns < oldest):
            self._entries.popleft()

    # --- One measurement

    def _process(self, entry: _Entry, fresh: int) -> None:
        """`fresh` is the first id that nobody has seen before the measurement which is being sorted in."""
        entry.before_ns, entry.before = self.time_ns, self._state
        self._entries.append(entry)
        self._state, self.time_ns = self._at(self._state, entry.time_ns), entry.time_ns
        association = self._correct(entry)
        self._rename(entry, association, fresh)
        self._end()
        self._merge(entry.time_ns)
        self._start(entry, association)

    def _at(self, state: WorldState, time_ns: int) -> WorldState:
        """Eq. 15 over the time since the last measurement."""
        dt = 0.0 if self.time_ns is None else (time_ns - self.time_ns) / SECOND
        if not dt or not len(state.ids):
            return state
        return self.moved(state, dt)._replace(existence=life.survive(state.existence, self.config.half_life, dt))

    def moved(self, state: WorldState, dt: float) -> WorldState:
        """Any tracks dt seconds later, by their motion alone."""
        parameters = self._table[state.groups]
        if self._modes:
            return interacting.predicted(state, dt, parameters, self._change_rates[state.groups])
        mean, covariance = world.predict(state.mean, state.covariance, dt, parameters)
        return state._replace(mean=mean, covariance=covariance)

    def turning(self, state: WorldState) -> Floats:
        """(N,) 1 for tracks whose motion turns, else 0."""
        return np.asarray(self._table[state.groups, world.TURNING])

    def _correct(self, entry: _Entry) -> AssociationWeights:
        """Weights over all joint events of M detections and N tracks, and Eq. 16-17 with them.

        A pair weighs r P_D f(score) N(z; h(x), S), a false detection its density, a missed track 1 - r P_D. P_D holds
        that the sensor can detect the object at all; out of its view that is 0, and its silence says nothing.
        """
        config, state, view = self.config, self._state, entry.view
        seen = view.linearised(state.mean, state.covariance, state.existence, self._table[state.groups], config.gate)
        _, log_density = gaussian(seen.innovation, seen.H, seen.V, state.covariance, config.gate)
        log_density += np.where(seen.odd != 0.0, np.log(config.shape_mismatch) + seen.odd, 0.0)
        visibility, chance = self._visibility(entry, seen), kernels.CHANCE * seen.in_view
        detected = visibility * chance
        log_likelihood, log_missed = kernels.event_weights(
            log_density,
            state.existence,
            detected,
            config.class_mismatch,
            config.group_mismatch,
            view.class_ids,
            state.classes,
            self._groups,
        )
        log_clutter = view.log_clutter() - entry.evidence
        association = association_weights(log_likelihood, log_clutter, log_missed, MAX_STATES)
        self.approximated += not association.exact
        if config.identities == "resolved":
            association = with_resolved_identities(association)
        if len(state.ids):
            expected, found = kernels.expected_and_found(
                state.existence * state.confirmed, seen.in_view, seen.unhidden, association.missed
            )
            if expected:
                entry.agreement = found / expected
            existence = life.posterior(state.existence, detected, association.missed)
            visibility = life.visible(state.existence, visibility, chance, association.missed)
            weights = np.ascontiguousarray(association.weights)  # one type of array, for which kernels are compiled
            self._update(entry, seen, weights, association.missed, existence)
            self._look(entry, seen, visibility)
        return association

    def _visibility(self, entry: _Entry, seen: Linearisation) -> Floats:
        """(N,) probability that the sensor can detect each object now, before its detections are looked at."""
        state, sensor, column = self._state, entry.view.sensor, self._column(entry)
        shares = kernels.detected_shares(
            state.scores, sensor.detection_probability, sensor.score_offset, sensor.detection_slope
        )
        dt = (entry.time_ns - state.looked_ns[:, column]) / SECOND
        return kernels.detectable(state.visibility[:, column].copy(), shares, seen.unhidden, sensor.miss_time, dt)

    def _look(self, entry: _Entry, seen: Linearisation, visibility: Floats) -> None:
        """Keep what the sensor's frame has told about which objects it can detect."""
        state, column = self._state, self._column(entry)
        kept, looked_ns = state.visibility.copy(), state.looked_ns.copy()
        kept[:, column], looked_ns[:, column] = visibility, entry.time_ns
        looks = isinstance(entry.view, SpaceView) & seen.in_view
        apparent = np.where(looks, visibility, state.apparent)
        self._state = state._replace(visibility=kept, looked_ns=looked_ns, apparent=apparent)

    def _column(self, entry: _Entry) -> int:
        return list(self.sensors).index(entry.sensor)

    def _update(self, entry: _Entry, seen: Linearisation, weights: Floats, missed: Floats, existence: Floats) -> None:
        config, state, view = self.config, self._state, entry.view
        offsets, count = kernels.offsets(seen.innovation, seen.H, seen.V, state.covariance, weights)
        if count:
            entry.offsets = view.along_own_axes(offsets)
        state = self._corrected(state, seen, view, weights)
        yaw = state.mean[:, world.YAW].copy()
        velocity = state.mean[:, world.VX : world.VY + 1].copy()
        facing = kernels.turned_back(state.mean[:, world.YAW], velocity, state.facing, seen.facing, weights)
        if self._modes:
            state.mode_mean[:, :, world.YAW] += (state.mean[:, world.YAW] - yaw)[:, None]
            world.keep_plausible(state.mode_mean.reshape(-1, world.STATE_SIZE))
        world.keep_plausible(state.mean)
        self._state = state._replace(
            existence=existence,
            confirmed=state.confirmed | (existence >= config.confirmation),
            seen_ns=np.where(missed < kernels.SEEN, entry.time_ns, state.seen_ns),
            facing=facing,
        )
        if isinstance(view, SpaceView):
            self._identify(entry, view, seen, weights, missed)

    def _corrected(self, state: WorldState, seen: Linearisation, view: View, weights: Floats) -> WorldState:
        """Eq. 16-17, and what is known of velocities."""
        spread = SPREADS.index(self.config.spread)
        if self._modes:
            return interacting.corrected(state, seen, view, weights, spread)
        mean, covariance = linearised_update(
            state.mean, state.covariance, seen.innovation, seen.H, seen.V, weights, spread
        )
        if (velocities := view.velocities(mean, weights)) is not None:
            innovation, H, V, known = velocities
            mean, covariance = linearised_update(mean, covariance, innovation, H, V, known, NONE)
        return state._replace(mean=mean, covariance=covariance)

    def _identify(self, entry: _Entry, view: SpaceView, seen: Linearisation, weights: Floats, missed: Floats) -> None:
        """What measurements in space alone tell: whether a place is measured, how sure the detector is, and what it is.

        Scores of an image's detector say nothing about places, and where an image alone goes on seeing an object, its
        distance is soon wrong.
        """
        state, unseen = self._state, missed >= kernels.SEEN
        hits, scores, trust, votes, classes = kernels.voted(
            weights,
            missed,
            view.scores,
            entry.evidence,
            view.class_ids,
            state.hits,
            state.scores,
            state.trust,
            state.votes,
            state.classes,
            self.config.score_memory,
        )
        overdue = entry.time_ns - state.placed_ns > UNSEEN * SECOND
        self._state = state._replace(
            hits=hits,
            scores=scores,
            trust=trust,
            votes=votes,
            classes=classes,
            groups=self._groups[classes],
            motions=motions_after(state.motions, view.detections.motions, weights),
            coasting=unseen & (state.coasting | seen.in_view | overdue),
            placed_ns=np.where(unseen, state.placed_ns, entry.time_ns),
        )

    # --- Births and deaths

    def _end(self) -> None:
        """Deaths: hardly likely to exist, or silent for too long."""
        assert self.time_ns is not None
        state, config = self._state, self.config
        silence = config.max_silence * SECOND
        alive = kernels.alive(state.seen_ns, state.existence, self.time_ns, silence, config.deletion)
        if len(alive) < len(state.ids):
            self._state = state.rows(alive)

    def _merge(self, time_ns: int) -> None:
        """Tracks that share a place with an older one for `merge_time` become one with it; the older id stays.

        What has been measured last is kept. An older track that was missed while the younger one was measured elsewhere
        has strayed: it ends, and the younger keeps its id.
        """
        state, config = self._state, self.config
        older = kernels.rivals(state.mean, state.ids, config.same_object)
        since = np.where(older < 0, -1, np.where(state.rival_ns < 0, time_ns, state.rival_ns))
        self._state = state._replace(rival_ns=since)
        over = (since >= 0) & (time_ns - since >= config.merge_time * SECOND)
        if not over.any():
            return
        ids, kept = state.ids.copy(), np.ones(len(state.ids), np.bool_)
        for young in over.nonzero()[0].tolist():
            old = int(older[young])
            if not (kept[old] and kept[young]):
                continue
            if state.seen_ns[old] >= state.seen_ns[young]:
                kept[young] = False
            else:
                kept[old] = False
                if state.born_ns[young] > state.seen_ns[old] or state.seen_ns[old] >= since[young]:
                    ids[young] = ids[old]
        self._state = self._state._replace(ids=ids).rows(kept.nonzero()[0])

    def _start(self, entry: _Entry, association: AssociationWeights) -> None:
        """Births: detections exist, as tracks, with the probability that they are true and of no track yet."""
        view, config = entry.view, self.config
        if not isinstance(view, SpaceView):  # an image does not tell how far away an object is
            return
        odds = config.birth_existence / (1 - config.birth_existence) * np.exp(entry.evidence)
        existence = kernels.births(
            association.clutter * odds / (1 + odds),
            config.min_birth,
            view.measurements,
            self._state.mean,
            self._state.existence,
            config.same_object,
        )
        rows = existence.nonzero()[0]
        if not len(rows):
            return
        classes = view.class_ids[rows]
        groups = self._groups[classes]
        mean, covariance = view.new_states(rows, self._table[groups])
        votes = np.zeros((len(rows), MAX_CLASSES))
        votes[np.arange(len(rows)), classes] = view.scores[rows]
        ids = np.array([self._id(entry, row) for row in rows.tolist()])
        seen_ns = np.full(len(rows), entry.time_ns)
        once, scores = np.ones(len(rows)), kernels.evidence(view.scores[rows], 0.5, 1.0)
        mode_probability, mode_mean, mode_covariance = interacting.new_modes(
            mean, covariance, self._moving[groups], self._modes
        )
        visibility = np.tile([sensor.detection_probability for sensor in self.sensors.values()], (len(rows), 1))
        visibility[:, self._column(entry)] = 1.0
        born = WorldState(
            visibility=visibility,
            looked_ns=np.full(visibility.shape, entry.time_ns),
            apparent=np.ones(len(rows)),
            rival_ns=np.full(len(rows), -1),
            born_ns=seen_ns,
            mean=mean,
            covariance=covariance,
            ids=ids,
            classes=classes,
            groups=groups,
            existence=existence[rows],
            confirmed=existence[rows] >= config.confirmation,
            seen_ns=seen_ns,
            placed_ns=seen_ns,
            coasting=np.zeros(len(rows), np.bool_),
            hits=once,
            scores=scores,
            trust=entry.evidence[rows],
            facing=once,
            votes=votes,
            motions=view.detections.motions[rows],
            mode_probability=mode_probability,
            mode_mean=mode_mean,
            mode_covariance=mode_covariance,
        )
        self._state = self._state.joined(born)

    def _id(self, entry: _Entry, row: int) -> int:
        """The id of the track that a detection starts: the same one when the measurement is processed again."""
        if row not in entry.ids:
            entry.ids[row] = self._next_id
            self._next_id += 1
        return entry.ids[row]

    def _rename(self, entry: _Entry, association: AssociationWeights, fresh: int) -> None:
        """Where a late measurement has just started the track that this one had started before, the old id stays."""
        for row, known in entry.ids.items():
            column = association.assignment[row]
            if column < 0 or known in self._state.ids or self._state.ids[column] < fresh:
                continue
            ids = self._state.ids.copy()
            renamed, ids[column] = ids[column], known
            self._state = self._state._replace(ids=ids)
            for other in self._entries:
                other.ids = {r: known if track == renamed else track for r, track in other.ids.items()}

    def _published(self) -> WorldState:
        """The confirmed tracks that the last look in their direction found, or that are likely enough without."""
        state, config = self._state, self.config
        found = ~state.coasting & (state.existence >= config.confirmation)
        likely = _likely(state) >= config.hold
        return state.rows((state.confirmed & (found | likely)).nonzero()[0])

    def as_tracks(self, state: WorldState, time_ns: int) -> Tracks3D:
        """Tracks of this time as they are published."""
        place, velocity = slice(world.YAW + 1), slice(world.VX, world.VY + 1)
        states = TrackStates(
            state.existence,
            class_probabilities(state.votes[:, : len(self.class_names)]),
            state.covariance[:, velocity, velocity],
            state.mode_probability[:, interacting.REST] if self._modes else np.zeros(len(state.ids)),
            state.facing,
            state.coasting,
            (time_ns - state.born_ns) / SECOND,
            (time_ns - state.seen_ns) / SECOND,
        )
        return Tracks3D(
            state.ids,
            world.to_boxes(state.mean),
            state.covariance[:, place, place],
            _likely(state) * np.where(state.coasting, state.apparent, 1.0),
            state.classes,
            state.mean[:, world.RATE] * self.turning(state),
            state.motions,
            states,
        )


def _likely(state: WorldState) -> Floats:
    """(N,) probability that the objects exist and are what the detectors look for, by the scores that they gave."""
    return state.existence * true_detections(state.trust)
