"""The tracker around PKF in space: predict, gate, associate, update, exist, end, start, output, as in the image.

Existence follows joint integrated probabilistic data association (D. Musicki and R. Evans, IEEE Trans. Aerospace and
Electronic Systems 40(3), 2004): every track carries the probability that it is an object at all, which takes part in
the association and follows from it. It decides on births, on what is shown and on deaths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import MOTIONS, Boxes2D, Detections3D, Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D, TrackStates
from pkf_filter.association.budget import Budget
from pkf_filter.association.weights import AssociationWeights
from pkf_filter.filtering.estimators import with_resolved_identities
from pkf_filter.filtering.linearised import linearised_update
from pkf_filter.filtering.update import NONE, SPREADS
from pkf_filter.life import classes, existence, scores
from pkf_filter.life.history import SECOND, Entry, History, TimeError
from pkf_filter.life.scores import MAX_CLASSES
from pkf_filter.space import imm as interacting
from pkf_filter.space import kernels
from pkf_filter.space import models as world
from pkf_filter.space.config import SensorModel, WorldConfig
from pkf_filter.space.sensors import ImageView, Linearisation, SpaceView, View
from pkf_filter.space.state import (
    WorldState,
    class_probabilities,
    motions_after,
    no_tracks,
    true_detections,
)

UNSEEN = 0.5  # seconds after which a track coasts that no sensor has in view
AGREEMENT_RATE = 0.05  # weight of the newest measurement


@dataclass
class _Frame(Entry[WorldState]):
    """One measurement.

    `evidence` (M,) is what the scores say for each detection. `agreement` is the share of the shown tracks in view,
    hidden ones aside, that it confirms, `offsets` its mean innovations, None without.
    """

    sensor: str = field(kw_only=True)
    view: View = field(kw_only=True)
    evidence: Floats = field(kw_only=True)
    agreement: float = field(kw_only=True)
    offsets: Floats | None = None


class _Gated(NamedTuple):
    """Which of M detections may be of which of N tracks.

    Attributes:
        seen: the detections as the tracks see them.
        log_density: (M, N) of the detections given tracks, -inf beyond the gate.
        visibility: (N,) probability that the sensor can detect each object now, before its detections are looked at.
        detection_probability: (N,) of the objects that it can detect: 0 out of its view.
    """

    seen: Linearisation
    log_density: Floats
    visibility: Floats
    detection_probability: Floats


class WorldTracker:
    """Detections of any number of sensors to tracks in one fixed frame.

    Attributes:
        class_names: what class ids mean, in the order in which `class_id` was asked for them.
        dropped: detections so far that no track can be made of (not finite, of impossible size, of an unknown class,
            or beyond the MAX_BOXES of the highest scores in a frame) and that were left out.
        budget: of the time that association takes; it counts the frames by how their weights were made.
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
        self.budget = Budget(self.config.association_time)
        self._groups = np.zeros(0, np.int64)  # of the class names
        self._class_factors: dict[str, Floats] = {}  # by sensor, see `life.classes`
        self._voted: dict[str, Floats] = {}
        self._confuse()
        groups = self.config.groups()
        self._table = world.group_table(groups)
        self._moving = np.array([interacting.moving_at_first(group) for group in groups])
        self._change_rates = np.array([interacting.change_rate(group) for group in groups])
        self._modes = interacting.MODES if self._change_rates.any() else 0
        self._history: History[_Frame] = History()
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; their ids are not used again."""
        self.time_ns: int | None = None
        self.agreement = dict.fromkeys(self.sensors, 1.0)
        self.offsets: dict[str, Floats] = {name: np.zeros(3) for name in self.sensors}
        self._state = no_tracks(self._modes, len(self.sensors))
        self._history.clear()

    def class_id(self, name: str) -> int:
        """The id of a class name, a new one if need be; -1 when there are MAX_CLASSES already."""
        if name in self.class_names:
            return self.class_names.index(name)
        if len(self.class_names) == MAX_CLASSES:
            return -1
        self.class_names.append(name)
        self._groups = np.array([self.config.group_of(known) for known in self.class_names])
        self._confuse()
        return len(self.class_names) - 1

    def _confuse(self) -> None:
        """By sensor, what it takes the classes for that are known by now."""
        config, known = self.config, [name.lower() for name in self.class_names]
        mismatches = classes.mismatches(self._groups, config.class_mismatch, config.group_mismatch)
        for name, sensor in self.sensors.items():
            told = [k for k, each in enumerate(sensor.confusion_classes) if each.lower() in known]
            rows = np.array([known.index(sensor.confusion_classes[k].lower()) for k in told], np.int64)
            matrix = classes.confusion_matrix(sensor.confusion_classes, sensor.confusion)[np.ix_(told, told)]
            self._class_factors[name] = classes.with_confusion(mismatches, rows, matrix)
            self._voted[name] = classes.votes_for(len(known), MAX_CLASSES, rows, matrix)

    def step(
        self,
        time_ns: int,
        detections: Detections3D,
        sensor: str = "",
        pose: Pose | None = None,
        covariance: Floats | None = None,
    ) -> Tracks3D:
        """Tracks at the newest time, after the detections of one frame of one sensor; an empty frame is a frame too.

        Args:
            time_ns: stamp of the detections, nanoseconds. One up to `max_lag` older than the newest is sorted in, as
                if it had come in time.
            detections: M detections in the fixed frame; unusable ones are counted in `dropped`.
            sensor: name of the sensor.
            pose: of the sensor (x forward) in the fixed frame, at `time_ns`; where it is not known no object counts as
                hidden or out of view.
            covariance: (M, 4, 4) of x, y, z and yaw in the fixed frame that the detections state, in place of that part
                of the sensor's noise; NaN where one states none.

        Raises:
            TimeError: `time_ns` is older than that.
            ConfigurationError: no sensor of that name.
        """
        view = SpaceView(detections, self._sensor(sensor), pose, covariance, tuple(self.class_names))
        return self._observe(time_ns, sensor, view)

    def step_image(
        self, time_ns: int, detections: Boxes2D, camera: Camera, pose: Pose, sensor: str = "", height: float = 0.0
    ) -> Tracks3D:
        """As `step`, for boxes in an image: they correct tracks in space, and start some on flat ground.

        Args:
            time_ns: stamp of the image, nanoseconds.
            detections: M boxes in pixels.
            camera: that took the image.
            pose: of its optical frame in the fixed frame, at `time_ns`.
            sensor: name of the sensor; with a `pitch_deviation` of 0 its boxes start none.
            height: of the camera over the ground, metres; 0 where that is not known, and boxes start none.
        """
        view = ImageView(detections, self._sensor(sensor), camera, pose, height, tuple(self.class_names))
        return self._observe(time_ns, sensor, view)

    def predicted(self, time_ns: int) -> Tracks3D:
        """The tracks as they are expected at a time not before the newest measurement's; nothing is changed.

        Raises:
            TimeError: `time_ns` lies before it.
        """
        if self.time_ns is not None and time_ns < self.time_ns:
            raise TimeError(f"expected a time of at least {self.time_ns} ns, got {time_ns} ns")
        return self._output(time_ns)

    @property
    def state(self) -> WorldState:
        """All tracks after the newest measurement, also those that are not published; no step changes them."""
        return self._state

    def _sensor(self, name: str) -> SensorModel:
        if name not in self.sensors:
            raise ConfigurationError(f"expected one of the sensors {sorted(self.sensors)}, got '{name}'")
        return self.sensors[name]

    def _observe(self, time_ns: int, sensor: str, view: View) -> Tracks3D:
        view, model = self._usable(view), view.sensor
        later = self._history.back_to(time_ns, self.time_ns, self.max_lag)
        if later:
            self.time_ns, self._state = later[0].before_ns, later[0].before
        frame = _Frame(
            time_ns,
            self.time_ns,
            self._state,
            sensor=sensor,
            view=view,
            evidence=scores.evidence(view.scores, model.score_offset, model.score_slope),
            agreement=self.agreement[sensor],
        )
        for each in [frame, *later]:
            self._process(each)
        self.agreement[sensor] += AGREEMENT_RATE * (frame.agreement - self.agreement[sensor])
        if frame.offsets is not None:
            self.offsets[sensor] = (1 - AGREEMENT_RATE) * self.offsets[sensor] + AGREEMENT_RATE * frame.offsets
        assert self.time_ns is not None
        self._history.forget(self.time_ns, self.max_lag)
        return self._output(self.time_ns)

    def _usable(self, view: View) -> View:
        usable = scores.usable(view.measurable(), view.scores, view.class_ids, len(self.class_names))
        usable = scores.best(usable, view.scores)
        if len(usable) == len(view.scores):
            return view
        self.dropped += len(view.scores) - len(usable)
        return view.rows(usable)

    # --- One measurement, in the steps of `image.tracker`

    def _process(self, frame: _Frame) -> None:
        frame.before_ns, frame.before = self.time_ns, self._state
        self._history.entries.append(frame)
        self._predict(frame.time_ns)
        gated = self._gate(frame)
        association = self._associate(frame, gated)
        self._update(frame, gated, association)
        self._exist(frame, gated, association)
        self._end(frame.time_ns)
        self._start(frame, association)

    def _predict(self, time_ns: int) -> None:
        self._state, self.time_ns = self._at(self._state, time_ns), time_ns

    def _at(self, state: WorldState, time_ns: int) -> WorldState:
        """Eq. 15 over the time since the last measurement."""
        dt = 0.0 if self.time_ns is None else (time_ns - self.time_ns) / SECOND
        if not dt or not len(state.ids):
            return state
        survived = existence.survive(state.existence, self.config.half_life, dt)
        return self.moved(state, dt)._replace(existence=survived)

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

    def _gate(self, frame: _Frame) -> _Gated:
        """P_D holds that the sensor can detect the object at all; out of its view that is 0, and its silence says
        nothing.
        """
        config, state, sensor, column = self.config, self._state, frame.view.sensor, self._column(frame)
        seen = frame.view.linearised(
            state.mean, state.covariance, state.existence, self._table[state.groups], config.gate_distance
        )
        log_density = seen.log_density(state.covariance, config.gate_distance)
        log_density += np.where(seen.odd != 0.0, np.log(config.shape_mismatch) + seen.odd, 0.0)
        shares = scores.detected_shares(
            state.scores, sensor.detection_probability, sensor.score_offset, sensor.detection_slope
        )
        dt = (frame.time_ns - state.looked_ns[:, column]) / SECOND
        visibility = kernels.detectable(state.visibility[:, column].copy(), shares, seen.unhidden, sensor.miss_time, dt)
        return _Gated(seen, log_density, visibility, scores.CHANCE * seen.in_view)

    def _associate(self, frame: _Frame, gated: _Gated) -> AssociationWeights:
        """Weights over all joint events of M detections and N tracks.

        A pair weighs r P_D f(score) N(z; h(x), S), a false detection its density, a missed track 1 - r P_D.
        """
        config, state = self.config, self._state
        detected = gated.visibility * gated.detection_probability
        pairs = existence.pair_weights(
            gated.log_density,
            state.existence,
            np.maximum(detected, kernels.UNEXPECTED),
            frame.view.class_ids,
            state.classes,
            self._class_factors[frame.sensor],
        )
        log_clutter = frame.view.log_clutter() - frame.evidence
        association = self.budget.associate(pairs, log_clutter, existence.log_missed(state.existence, detected))
        self._state = state._replace(ids=self._history.keep_ids(frame, association.assignment, state.ids))
        return with_resolved_identities(association) if config.identities == "resolved" else association

    def _update(self, frame: _Frame, gated: _Gated, association: AssociationWeights) -> None:
        """Eq. 16-17, and the heading's sign."""
        state = self._state
        weights = np.ascontiguousarray(association.weights)  # one type of array, for which kernels are compiled
        seen = gated.seen.merged(weights)
        offsets, count = kernels.offsets(seen.innovation, seen.H, seen.V, state.covariance, weights)
        if count:
            frame.offsets = frame.view.along_own_axes(offsets)
        state = self._corrected(state, seen, frame.view, weights)
        longer = frame.view.end_spread(state.mean, state.covariance, weights, self._table[state.groups])
        if longer is not None:
            state = state._replace(
                covariance=state.covariance + longer, mode_covariance=state.mode_covariance + longer[:, None]
            )
        yaw = state.mean[:, world.YAW].copy()
        velocity = state.mean[:, world.VX : world.VY + 1].copy()
        facing = kernels.turned_back(state.mean[:, world.YAW], velocity, state.facing, seen.facing, weights)
        if self._modes:
            state.mode_mean[:, :, world.YAW] += (state.mean[:, world.YAW] - yaw)[:, None]
            world.keep_plausible(state.mode_mean.reshape(-1, world.STATE_SIZE))
        world.keep_plausible(state.mean)
        self._state = state._replace(facing=facing)

    def _column(self, frame: _Frame) -> int:
        return list(self.sensors).index(frame.sensor)

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

    def _exist(self, frame: _Frame, gated: _Gated, association: AssociationWeights) -> None:
        """Existence, and which objects the sensor can detect, by the association.

        The other sensors' views of the same are kept, each with the time of its last frame.
        """
        state, seen, missed, column = self._state, gated.seen, association.missed, self._column(frame)
        expected, found = kernels.expected_and_found(
            state.existence * state.confirmed, seen.in_view, seen.unhidden, missed
        )
        if expected:
            frame.agreement = found / expected
        before, visibility, chance = state.existence, gated.visibility, gated.detection_probability
        after = existence.posterior(before, visibility * chance, missed)
        visibility = existence.visible(before, visibility, chance, missed)
        by_sensor, looked_ns = state.visibility.copy(), state.looked_ns.copy()
        by_sensor[:, column], looked_ns[:, column] = visibility, frame.time_ns
        self._state = state._replace(
            existence=after,
            confirmed=state.confirmed | (after >= self.config.confirmation),
            visibility=by_sensor,
            looked_ns=looked_ns,
            seen_ns=np.where(missed < scores.SEEN, frame.time_ns, state.seen_ns),
        )
        told = np.ones(len(missed), np.bool_) if isinstance(frame.view, SpaceView) else ~state.placed
        if told.any():
            self._identify(frame, told, gated, visibility, association)

    def _identify(
        self,
        frame: _Frame,
        told: NDArray[np.bool_],
        gated: _Gated,
        visibility: Floats,
        association: AssociationWeights,
    ) -> None:
        """Whether a place is measured, how sure the detector is, and what the object is, of those that are `told` (N,).

        Once a sensor in space has measured a track, those alone tell: scores of an image's detector say nothing about
        places, and where an image alone goes on seeing an object, its distance is soon wrong.
        """
        state, view, in_view = self._state, frame.view, gated.seen.in_view & told
        missed = np.where(told, association.missed, 1.0)
        weights = np.ascontiguousarray(association.weights)
        period = (frame.time_ns - frame.before.looked_ns[:, self._column(frame)]) / SECOND
        fading = self.config.old_share(period)
        shares = np.minimum(state.hits / (state.hits + 1.0), fading)
        track_scores, votes, trust = state.scores.copy(), state.votes.copy(), state.trust.copy()
        voted = self._voted[frame.sensor]
        own = scores.credit(weights, missed, view.scores, view.class_ids, voted, shares, track_scores, votes)
        measured = own >= 0
        trust[measured] += (1.0 - shares[measured]) * (frame.evidence[own[measured]] - trust[measured])
        likeliest = np.where(measured, votes.argmax(1), state.classes)
        if isinstance(view, SpaceView):
            view.vote_of_doubles(own, self._groups[view.class_ids], state, voted, votes, self.config.same_object)
        overdue = frame.time_ns - state.placed_ns > UNSEEN * SECOND
        self._state = state._replace(
            hits=state.hits + measured,
            scores=track_scores,
            trust=trust,
            votes=votes,
            classes=likeliest,
            groups=self._groups[likeliest],
            apparent=np.where(in_view, visibility, state.apparent),
            coasting=np.where(told, ~measured & (state.coasting | in_view | overdue), state.coasting),
            placed_ns=np.where(measured, frame.time_ns, state.placed_ns),
        )
        if isinstance(view, SpaceView):
            motions = motions_after(state.motions, view.detections.motions, weights)
            self._state = self._state._replace(motions=motions, placed=state.placed | measured)

    def _end(self, time_ns: int) -> None:
        """Deaths: hardly likely to exist, silent for too long, or a second track of an object that has one already."""
        state, config = self._state, self.config
        silence = config.max_silence * SECOND
        alive = kernels.alive(state.seen_ns, state.existence, time_ns, silence, config.deletion)
        if len(alive) < len(state.ids):
            self._state = state.rows(alive)
        self._merge(time_ns)

    def _merge(self, time_ns: int) -> None:
        """Tracks that share a place with an older one for `merge_time` become one with it; the older id stays.

        What has been measured last is kept. An older track that was missed while the younger one was measured elsewhere
        has strayed: it ends, and the younger keeps its id.
        """
        state, config = self._state, self.config
        older = kernels.rivals(state.mean, state.ids, state.groups, config.same_object)
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

    def _start(self, frame: _Frame, association: AssociationWeights) -> None:
        """Births: detections exist, as tracks, with the probability that they are true and of no track yet."""
        view, config = frame.view, self.config
        newborn = existence.newborn(association.clutter, frame.evidence, config.birth_existence)
        newborn = view.births(newborn, config, self._state.mean, self._state.existence)
        rows = newborn.nonzero()[0]
        if not len(rows):
            return
        class_ids = view.class_ids[rows]
        groups = self._groups[class_ids]
        mean, covariance = view.new_states(rows, self._table[groups])
        votes = view.scores[rows, None] * self._voted[frame.sensor][class_ids]
        ids = np.array([self._history.id_of(frame, row) for row in rows.tolist()])
        seen_ns, once = np.full(len(rows), frame.time_ns), np.ones(len(rows))
        motions = view.detections.motions[rows] if isinstance(view, SpaceView) else np.zeros((len(rows), len(MOTIONS)))
        mode_probability, mode_mean, mode_covariance = interacting.new_modes(
            mean, covariance, self._moving[groups], self._modes
        )
        visibility = np.tile([sensor.detection_probability for sensor in self.sensors.values()], (len(rows), 1))
        visibility[:, self._column(frame)] = 1.0
        born = WorldState(
            visibility=visibility,
            looked_ns=np.full(visibility.shape, frame.time_ns),
            apparent=np.ones(len(rows)),
            rival_ns=np.full(len(rows), -1),
            born_ns=seen_ns,
            mean=mean,
            covariance=covariance,
            ids=ids,
            classes=class_ids,
            groups=groups,
            existence=newborn[rows],
            confirmed=newborn[rows] >= config.confirmation,
            seen_ns=seen_ns,
            placed_ns=seen_ns,
            coasting=np.zeros(len(rows), np.bool_),
            placed=np.full(len(rows), isinstance(view, SpaceView)),
            hits=once,
            scores=scores.evidence(view.scores[rows], 0.5, 1.0),
            trust=frame.evidence[rows],
            facing=once,
            votes=votes,
            motions=motions,
            mode_probability=mode_probability,
            mode_mean=mode_mean,
            mode_covariance=mode_covariance,
        )
        self._state = self._state.joined(born)

    # --- Output

    def _output(self, time_ns: int) -> Tracks3D:
        """The tracks that are to be published, as they are expected at a time."""
        published = self._state.rows(self.published(self._state).nonzero()[0])
        return self.as_tracks(self._at(published, time_ns), time_ns)

    def published(self, state: WorldState) -> NDArray[np.bool_]:
        """(N,) whether a track is confirmed and found by the last look in its direction, or likely enough without."""
        found = ~state.coasting & (state.existence >= self.config.confirmation)
        likely = _likely(state) >= self.config.coasting_score
        return np.asarray(state.confirmed & (found | likely))

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
