"""The lifecycle node that all nodes of this project are made from.

A node is a parameter model, a few hooks and a main function. The base validates the parameters, starts by
itself (`autostart`), gates callbacks on the lifecycle, survives their exceptions, watches the order of stamps
and the other ends of its topics and publishes diagnostics each second:

    class Tracker(CamtrackNode[TrackerParameters]):
        def __init__(self, **options):
            super().__init__("tracker", TrackerParameters, **options)

        def configure(self, parameters):  # raise a CamtrackError to refuse
            self.tracker = make_tracker(parameters)
            self.tracks = self.advertise(Detection2DArray, "~/tracks", RESULTS)
            ImageInput(self, "image", self.on_image, parameters)  # camtrack_core.ros.lifecycle.image_input

        def on_image(self, image, time_ns, header):
            with self.monitor.stage("track"):
                tracks = self.tracker.update(image, time_ns)
            self.tracks.publish(messages.pack_tracks(tracks, NAMES, header))

        def reset(self):  # time went backwards
            self.tracker.reset()

    def main():
        return run(Tracker)  # camtrack_core.ros.lifecycle.run

Hooks: configure(parameters), activate(), deactivate(), cleanup(), reset(); all but configure may be left out.

For use inside the hooks and callbacks:
    subscribe(type, topic, callback, qos)  a subscription that is silent unless the node is active
    subscribe_serialised(...)              the same, for callbacks that take the message as bytes
    take_next(subscription)                a message that waits there already, before its callback's turn
    advertise(type, topic, qos)            a lifecycle publisher
    repeat(seconds, callback)              a timer on the machine's clock, silent unless the node is active
    alarm(callback)                        a timer that rings once when it is set, and costs nothing until then
    watch(callback)                        called right before each report of the diagnostics while the node is active
    accept(source, time_ns, tolerance)     whether a stamp is usable; counts duplicates, resets on a jump back
    drop(cause, sentence)                  count and report a measurement that cannot be used
    age(time_ns)                           seconds since a stamp; None where the stamps are not of the node's clock
    warn(subject, sentence or None, level) set or end a standing warning
    show_model(file, session)              a model and what runs it, in the diagnostics
    finish(exit_code)                      end the process after this callback
    monitor.stage(name), monitor.facts, monitor.processed   see camtrack_core.monitor

rclpy's own Node keeps private attributes such as _clock, _logger and _parameters: choose other names.
What configure creates is destroyed on cleanup. Parameters are read on configure; changing one later is
refused.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Generic

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from camtrack_core.config import P, parameter_names
from camtrack_core.errors import CamtrackError, ConfigurationError
from camtrack_core.files import FileVersion
from camtrack_core.monitor import RISING, Level, Monitor
from camtrack_core.ros.lifecycle.parameters import declare, declare_given, quality_overrides, read, refusals, strangers
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS, deaf_to, unheard_by
from camtrack_core.ros.messages.stamps import NANOSECONDS, Arrival, SharedOrder
from camtrack_core.runtime import Session

DIAGNOSTIC_PERIOD = 1.0  # seconds
LOST = "lost in transport"  # the cause of drops
SUBSCRIBERS = "subscribers."  # what the diagnostics say of a topic that the node publishes
TAKEN, ANSWERED = "taken.", "answered."  # the same of a topic of images: stamps of the newest image and result, ns
LOG_PERIOD = 10.0  # seconds between two log lines about one cause of drops
OLDEST = 10.0  # seconds; a stamp so far in the past, or in the future, is of another clock


class CamtrackNode(LifecycleNode, Generic[P]):
    """Base of every node; see the module's text.

    Attributes:
        parameters: the validated parameters, from configure on.
        monitor: what the diagnostics show.
        active: whether the lifecycle state is active.
        exit_code: set by finish(); None while the node wants to go on.
    """

    parameters: P

    def __init__(self, name: str, model: type[P], **options: Any) -> None:
        super().__init__(name, **options)
        self.monitor = Monitor()
        self.active = False
        self.exit_code: int | None = None
        self._model = model
        self._phase = "unconfigured"
        self._failure: str | None = None  # why the last transition failed
        self._order = SharedOrder()
        self._logged: dict[str, float] = {}
        self._shown: tuple[FileVersion, Session] | None = None  # the model in use
        self._heard: list[Any] = []
        self._told: list[Any] = []
        self._repeated: list[Any] = []
        self._watching: list[Callable[[], None]] = []

        declare_given(self)
        declare(self, model)
        self.add_on_set_parameters_callback(self._refuse_late_parameters)
        # Not the ROS clock: with use_sim_time and nobody publishing /clock that one stands still.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        backwards = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._clock_jumps = self.get_clock().create_jump_callback(backwards, post_callback=self._on_clock_jump)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self._health = self.create_timer(DIAGNOSTIC_PERIOD, self._diagnose, clock=self._steady)

    # --- Hooks

    def configure(self, parameters: P) -> None:
        """Create what the node needs. Raise a CamtrackError to refuse."""
        raise NotImplementedError

    def activate(self) -> None:
        """The node may publish from now on."""

    def deactivate(self) -> None:
        """The node must be quiet from now on."""

    def cleanup(self) -> None:
        """Release what configure made besides subscriptions, publishers and timers."""

    def reset(self) -> None:
        """Time went backwards: forget what was derived from earlier measurements."""

    # --- For use by subclasses

    def subscribe(self, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile) -> Any:
        """A subscription whose callback runs only while the node is active; its exceptions become drops."""
        return self._listen(kind, topic, self.guarded(callback), qos, self._lost_on(topic))

    def subscribe_informed(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any, dict[str, Any]], None],
        lost: Callable[[int], None],
        qos: QoSProfile,
    ) -> Any:
        """As subscribe, for callbacks that take what the transport knows of the message, too.

        `lost` is told how many messages were lost in transport, as soon as that is known.
        """
        guarded, guarded_lost = self.guarded(callback), self.guarded(lost)

        def call(message: Any, information: dict[str, Any]) -> None:
            guarded(message, information)

        return self._listen(kind, topic, call, qos, guarded_lost)

    def subscribe_serialised(self, kind: type, topic: str, callback: Callable[[bytes], None], qos: QoSProfile) -> Any:
        """As subscribe, for callbacks that take the message's serialised form (`camtrack_core.ros.messages.cdr`)."""
        return self._listen(kind, topic, self.guarded(callback), qos, self._lost_on(topic), raw=True)

    def take_next(self, subscription: Any) -> tuple[Any, dict[str, Any]] | None:
        """The next message that waits on a subscription of ours, and what the transport knows of it, or None.

        For callbacks that want all that is there: the executor hands out one message at a time, in turns with those of
        the other topics and nodes of the process.
        """
        handle = subscription.handle
        with handle:  # as rclpy's executor takes messages
            taken: tuple[Any, dict[str, Any]] | None = handle.take_message(subscription.msg_type, False)
        return taken

    def _listen(
        self,
        kind: type,
        topic: str,
        callback: Callable[..., None],
        qos: QoSProfile,
        lost: Callable[[int], None],
        raw: bool = False,
    ) -> Any:
        events = SubscriptionEventCallbacks(message_lost=lambda event: lost(event.total_count_change))
        self._heard.append(self.create_subscription(kind, topic, callback, qos, event_callbacks=events, raw=raw))
        return self._heard[-1]

    def _lost_on(self, topic: str) -> Callable[[int], None]:
        return lambda count: self.drop(LOST, f"messages on {topic} did not arrive", count)

    def advertise(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """A publisher that is silent unless the node is active."""
        self._told.append(self.create_lifecycle_publisher(kind, topic, qos))
        return self._told[-1]

    def repeat(self, seconds: float, callback: Callable[[], None]) -> Any:
        """A timer that calls back at this period of the machine's clock while the node is active."""
        self._repeated.append(self.create_timer(seconds, self.guarded(callback), clock=self._steady))
        return self._repeated[-1]

    def alarm(self, callback: Callable[[], None]) -> Alarm:
        """A timer for what has to wait now and then: it rings once, `Alarm.set` seconds later."""
        return Alarm(self, callback)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call back right before each report of the diagnostics while the node is active.

        For what only warns and counts: a timer of its own would wake up the whole process once more each period.
        """
        self._watching.append(self.guarded(callback))

    def in_step(self) -> None:
        """Start the periods of all timers now: nodes of one process then wake up together, not one after the other."""
        for timer in (self._health, *self._repeated):
            if not timer.is_canceled():
                timer.reset()

    def age(self, time_ns: int) -> float | None:
        """Seconds since a stamp; None where the stamps are not of the node's clock, as of a recording without it."""
        age = (self.get_clock().now().nanoseconds - time_ns) / NANOSECONDS
        return age if 0 <= age <= OLDEST else None

    def accept(self, source: str, time_ns: int, future_tolerance: float, max_lag: float = 0.0) -> bool:
        """Whether a stamp of this source is new, or overtaken by at most `max_lag` seconds, and not from the future.

        `future_tolerance` is by how many seconds it may be ahead of the clock. Others are counted as drops. Where a
        recording starts again, as several stamps from long ago tell, the node is reset and goes on with the last of
        them.
        """
        now = self.get_clock().now().nanoseconds
        ahead = (time_ns - now) / NANOSECONDS
        if now and ahead > future_tolerance:  # 0: simulated time that has not begun
            sentence = f"{source} is {ahead:.3f} s ahead of the clock: are the clocks synchronised?"
            self.drop("stamp from the future", sentence)
            return False
        arrival = self._order.judge(source, time_ns, round(max_lag * NANOSECONDS))
        if arrival is Arrival.JUMP_BACK:
            self._start_afresh(f"time on {source} went backwards to {time_ns / 1e9:.3f} s: starting afresh")
        elif arrival is not Arrival.NEW:
            self.drop(arrival.value, f"expected a newer stamp on {source}, got {time_ns / 1e9:.3f} s")
            return False
        return True

    def _start_afresh(self, sentence: str) -> None:
        self.get_logger().warning(sentence)
        self.monitor.event(sentence)
        self._forget_images()
        self.reset()

    def _forget_images(self) -> None:
        """What was taken and has no result yet will have none."""
        facts = self.monitor.facts
        self.monitor.facts = {key: value for key, value in facts.items() if not key.startswith(TAKEN)}

    def drop(self, cause: str, sentence: str, count: int = 1) -> None:
        """Count a measurement that cannot be used; logged now and then, shown in the diagnostics."""
        total = self.monitor.drop(cause, count)
        now = time.monotonic()
        if now - self._logged.get(cause, -LOG_PERIOD) >= LOG_PERIOD:
            self._logged[cause] = now
            self.get_logger().warning(f"dropped ({cause}, {total} so far): {sentence}")

    def warn(self, subject: str, sentence: str | None, level: Level = Level.WARN) -> None:
        """Set the standing warning about a subject, or end it with None. Logged when it begins and ends."""
        self.monitor.levels[subject] = level
        if sentence is None:
            if self.monitor.warnings.pop(subject, None):
                self.get_logger().info(f"{subject}: all is well again")
            return
        if subject not in self.monitor.warnings:
            self.get_logger().warning(sentence)
        self.monitor.warnings[subject] = sentence

    def show_model(self, file: FileVersion, session: Session) -> None:
        """Tell in the diagnostics which model is used, what runs it and what the user should know of both, now and from
        now on: a model that is replaced is used from the next configure on, and not before.
        """
        self._shown = file, session
        self.monitor.facts |= {"model": file.path.name, "engine": session.engine}
        self.warn("engine", session.notice)
        changed = f"{file.path} is not the model any more that was loaded: configure anew to use what is there now"
        self.warn("model", None if FileVersion.of(file.path) == file else changed)

    def finish(self, exit_code: int = 0) -> None:
        """Let `lifecycle.run` end the process with this code."""
        self.exit_code = exit_code

    # --- Start and end

    def start(self) -> bool:
        """Configure and activate if `autostart` says so; False if that failed (the reason is logged)."""
        if self.get_parameter("autostart").value is False:
            return True
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def close(self) -> None:
        """Run the hooks that end the node, then destroy it."""
        if self._phase != "finalized":
            try:
                self.trigger_shutdown()
            except RuntimeError:  # rclpy's RCLError: a signal has interrupted a transition, from which none leads on
                self.on_shutdown(None)
        self.destroy_node()

    # --- Lifecycle

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        for sentence in strangers(self, self._model):
            self.get_logger().warning(sentence)
        if not self._attempt("configure", self._configure):
            self._attempt("clean up", self._release)
            return TransitionCallbackReturn.FAILURE
        self._phase = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if not self._attempt("activate", self.activate):
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        self._phase, self.active = "active", True
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        self._quiet()
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        self._attempt("clean up", self._release)
        self._phase = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        if self.active:
            self._quiet()
        if self._phase != "unconfigured":
            self._attempt("clean up", self._release)
        self._phase = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def _LifecycleNodeMixin__change_state(self, transition: int) -> TransitionCallbackReturn:
        """rclpy's own, which ends the process where somebody asks for a transition that the state does not have."""
        try:
            return super()._LifecycleNodeMixin__change_state(transition)
        except RuntimeError as error:
            self.get_logger().warning(f"expected a transition that a node has that is {self._phase}: {error}")
            return TransitionCallbackReturn.FAILURE

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """A transition failed in a way that nobody has foreseen, and rclpy keeps to itself: from the beginning."""
        if self.active:
            self._quiet()
        self._attempt("clean up", self._release)
        self._phase = "unconfigured"
        self._failure = f"a transition failed in rclpy while the node was {state.label}; it can be configured anew"
        self.get_logger().error(self._failure)
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._failure = None
        if overrides := quality_overrides(self):
            sentence = "expected none, the quality of service of every topic is fixed (docs/diagnostics.md)"
            raise ConfigurationError(f"parameter '{overrides[0]}': {sentence}")
        self.parameters = read(self, self._model)
        self.configure(self.parameters)

    def _quiet(self) -> None:
        self._phase, self.active = "inactive", False
        self._forget_images()
        self._attempt("deactivate", self.deactivate)

    def _release(self) -> None:
        for subscription in self._heard:
            self.destroy_subscription(subscription)
        for publisher in self._told:
            self.destroy_lifecycle_publisher(publisher)
        for timer in self._repeated:
            self.destroy_timer(timer)
        self._heard, self._told, self._repeated, self._watching = [], [], [], []
        self._order.reset()
        self._shown = None
        self.monitor.warnings.clear()
        self.cleanup()

    def _attempt(self, what: str, hook: Callable[[], None]) -> bool:
        """Run a hook; a failure is logged: a sentence for what was foreseen, a traceback for a bug."""
        try:
            hook()
        except CamtrackError as error:
            self._failure = f"cannot {what}: {error}"
            self.get_logger().error(self._failure)
            return False
        except Exception as error:  # rclpy would swallow it
            self._failure = f"cannot {what}: {type(error).__name__} {error}"
            self.get_logger().error(f"cannot {what}:\n{traceback.format_exc()}")
            return False
        return True

    def _refuse_late_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        ours = {change.name for change in changes} & set(parameter_names(self._model))
        if ours and self._phase in ("inactive", "active"):
            reason = f"{', '.join(sorted(ours))}: read on configure only; clean the node up first"
            return SetParametersResult(successful=False, reason=reason)
        wrong = refusals(self._model, [change for change in changes if change.name in ours])
        return SetParametersResult(successful=not wrong, reason="; ".join(wrong))

    # --- Callbacks and diagnostics

    def _on_clock_jump(self, jump: Any) -> None:
        """Simulated time that starts again: of what comes now nothing is late."""
        self._order.reset()
        if self.active:
            self._start_afresh("/clock went backwards: starting afresh")

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, silent unless the node is active; what it raises is counted and the node stays up."""

        def call(*message: Any) -> None:
            if not self.active:
                return
            try:
                callback(*message)
            except CamtrackError as error:
                self.drop(getattr(error, "cause", type(error).__name__), str(error))
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                cause = f"{type(error).__name__} in {place.name}"
                self.monitor.event(f"{cause}: {error}", Level.ERROR)
                if self.monitor.drop(cause) == 1:  # the traceback once; how often it happens is in the diagnostics
                    self.get_logger().error(f"dropped ({cause}):\n{traceback.format_exc()}")

        return call

    def _diagnose(self) -> None:
        for look in self._watching:
            look()
        self._check_endpoints()
        if self._shown is not None:
            self.show_model(*self._shown)
        report = self.monitor.report()
        status = DiagnosticStatus(name=self.get_fully_qualified_name(), hardware_id="camtrack")
        own = Level.ERROR if self._failure else Level.OK if self.active else Level.STALE
        status.level = bytes([max(own, report.level, key=RISING.index)])
        said = [self._failure] if self._failure else []
        status.message = "; ".join([*said, *report.warnings]) or f"{self._phase}, {report.rate:.1f} Hz"
        values = {"state": self._phase, **report.values, **found_subscribers(self._told)}
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _check_endpoints(self) -> None:
        """Warn about publishers and subscribers that share a topic with us but cannot talk to us."""
        for subscription in self._heard:
            self.warn(subscription.topic_name, "; ".join(deaf_to(self, subscription)) or None)
        for publisher in self._told:
            self.warn(publisher.topic_name, "; ".join(unheard_by(self, publisher)) or None)


def found_subscribers(publishers: Iterable[Any]) -> dict[str, str]:
    """`subscribers.TOPIC`: how many each publisher has found. What it publishes before reaches the others never."""
    return {SUBSCRIBERS + publisher.topic_name: str(publisher.get_subscription_count()) for publisher in publishers}


class Alarm:
    """Rings once, some seconds after it was set, if the node is active then.

    A timer that runs all the time costs a wake-up of the whole process each period, whether there is anything to do or
    not. Make it in the node's configure, with `CamtrackNode.alarm`.
    """

    def __init__(self, node: CamtrackNode[Any], callback: Callable[[], None]) -> None:
        self._callback = callback
        self._timer = node.repeat(DIAGNOSTIC_PERIOD, self._ring)
        self._timer.cancel()

    def set(self, seconds: float) -> None:
        """Let it ring so much later; one that is set already stays as it is."""
        if self._timer.is_canceled():
            self._timer.timer_period_ns = max(1, round(seconds * NANOSECONDS))
            self._timer.reset()

    def _ring(self) -> None:
        self._timer.cancel()
        self._callback()
