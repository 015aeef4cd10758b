"""The base node: parameters, lifecycle, images that are broken or missing, time that jumps, signals."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from pydantic import Field
from rclpy.duration import Duration
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_helpers import PATIENCE, Diagnostics, collect, image_message, opened_graph, read_until, start_process
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from camtrack_core.config import ImageNodeParameters
from camtrack_core.errors import ModelError
from camtrack_core.monitor import Level
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import CLOCK, RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.image import fill_compressed
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds

SECOND = 1_000_000_000
HOUR = 3600 * SECOND  # between images that wait in a queue: no node is so far behind, however busy the machine is


class EchoParameters(ImageNodeParameters):
    model: str = Field("good.onnx", description="a file")
    threshold: float = Field(0.5, ge=0, le=1, description="least score")


class EchoNode(CamtrackNode[EchoParameters]):
    """Remembers what it gets and echoes the stamps."""

    def __init__(self, **options):
        super().__init__("echo", EchoParameters, **options)
        self.images, self.history = [], []
        self.fails_on = self.gives_up_on = None

    def configure(self, parameters):
        if parameters.model == "missing.onnx":
            raise ModelError("expected a model, there is no missing.onnx")
        if parameters.model == "bug.onnx":
            raise KeyError("bug")
        self.images_in = ImageInput(self, "image", self.on_image, parameters)
        self.echo = self.advertise(Header, "~/echo", RESULTS)
        self.history.append("configure")

    def activate(self):
        self.history.append("activate")

    def deactivate(self):
        self.history.append("deactivate")

    def cleanup(self):
        self.history.append("cleanup")

    def reset(self):
        self.history.append("reset")

    def on_image(self, image, time_ns, header):
        if time_ns == self.fails_on:
            raise ZeroDivisionError("a bug")
        with self.monitor.stage("work"):
            self.images.append((time_ns, image.copy()))
        if time_ns == self.gives_up_on:
            return
        self.echo.publish(header)
        self.images_in.finished(time_ns)

    @property
    def stamps(self):
        return [time_ns for time_ns, _ in self.images]


@pytest.fixture
def graph():
    with opened_graph() as graph:
        yield graph


class Camera:
    """A peer that publishes images to an echo node."""

    def __init__(self, graph, node, qos=SENSOR_DATA, kind=Image, topic="image"):
        self.graph, self.node = graph, node
        self.peer = graph.peer("camera")
        self.diagnostics = Diagnostics(self.peer)
        self.publisher = self.peer.create_publisher(kind, topic, qos)
        graph.spin_until(lambda: self.publisher.get_subscription_count() == 1)

    def send(self, *messages):
        """Publish one by one, each handled before the next."""
        for message in messages:
            handled = self.handled()
            self.publisher.publish(message)
            self.graph.spin_until(lambda before=handled: self.handled() > before)

    def handled(self):
        return len(self.node.images) + self.node.monitor.drops.total()

    def hears(self, text):
        self.graph.spin_until(lambda: self.diagnostics.says(text))

    def hears_level(self, level):
        self.graph.spin_until(lambda: self.diagnostics.level() == level)


def test_images_arrive_as_arrays_with_their_stamps(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    echoes = collect(camera.peer, Header, "echo/echo", RESULTS)
    graph.spin_until(lambda: node.echo.get_subscription_count() == 1)
    camera.send(image_message(5 * SECOND, 7), image_message(6 * SECOND, 9))
    graph.spin_until(lambda: len(echoes) == 2)
    assert node.stamps == [5 * SECOND, 6 * SECOND]
    assert np.array_equal(node.images[1][1], np.full((4, 6, 3), 9, np.uint8))
    assert [to_nanoseconds(echo.stamp) for echo in echoes] == node.stamps
    assert echoes[0].frame_id == "camera"
    camera.hears("processed=2")
    camera.hears("latency.work.p99_ms=")
    camera.hears("latency.total.p50_ms=")
    camera.hears("state=active")


def test_compressed_images(graph):
    node = graph.start(EchoNode, image_transport="compressed")
    camera = Camera(graph, node, kind=CompressedImage, topic="image/compressed")
    message = fill_compressed(CompressedImage(), np.full((16, 16, 3), 100, np.uint8))
    fill_stamp(message.header.stamp, SECOND)
    camera.send(message)
    assert abs(int(node.images[0][1][0, 0, 0]) - 100) < 3


# --- Start


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"threshold": 1.5}, "parameter 'threshold': expected less than or equal to 1, got 1.5"),
        ({"image_transport": "smoke"}, "parameter 'image_transport': expected 'raw' or 'compressed', got 'smoke'"),
        ({"model": "missing.onnx"}, "expected a model, there is no missing.onnx"),
        ({"model": "bug.onnx"}, "KeyError: 'bug'"),
    ],
)
def test_a_refused_configuration_is_said_and_leaves_nothing(graph, capfd, parameters, sentence):
    node = graph.add(EchoNode(**graph.options(parameters)))
    assert not node.start()
    assert sentence in capfd.readouterr().err
    assert node.history == ["cleanup"] and not node.active
    assert node.count_subscribers("image") == 0


def test_a_node_can_be_configured_after_it_was_refused(graph):
    node = graph.add(EchoNode(**graph.options({"threshold": 1.5})))
    assert not node.start()
    node.set_parameters([Parameter("threshold", value=0.25)])
    assert node.start() and node.parameters.threshold == 0.25


def test_without_autostart_the_node_waits(graph):
    node = graph.add(EchoNode(**graph.options({"autostart": False})))
    assert node.start() and node.history == []
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.history == ["configure"] and not node.active


def test_an_inactive_node_is_silent_and_can_go_on(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    node.trigger_deactivate()
    camera.publisher.publish(image_message(SECOND))
    graph.spin_for(0.3)
    assert node.images == []
    node.trigger_activate()
    camera.send(image_message(2 * SECOND))
    assert node.stamps == [2 * SECOND]
    assert node.history == ["configure", "activate", "deactivate", "activate"]


def test_cleanup_releases_the_topics(graph):
    node = graph.start(EchoNode)
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert node.history[-2:] == ["deactivate", "cleanup"]
    graph.spin_until(lambda: node.count_subscribers("image") == 0 and node.count_publishers("echo/echo") == 0)


def test_parameters_cannot_be_changed_behind_the_nodes_back(graph):
    node = graph.start(EchoNode)
    (result,) = node.set_parameters([Parameter("threshold", value=0.1)])
    assert not result.successful and "threshold: read on configure only" in result.reason
    (result,) = node.set_parameters([Parameter("use_sim_time", value=True)])
    assert result.successful


# --- Images that cannot be used


def test_broken_images_are_counted_by_cause_and_the_node_stays_up(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    unknown, truncated, without_stamp = (image_message(t * SECOND) for t in (1, 2, 0))
    unknown.encoding = "32FC1"
    truncated.data = truncated.data[:-5]
    camera.send(unknown, truncated, without_stamp, image_message(3 * SECOND))
    assert node.stamps == [3 * SECOND]
    assert node.monitor.drops == {"unknown encoding": 1, "wrong size": 1, "zero stamp": 1}
    camera.hears("drops.unknown encoding=1")
    camera.hears("dropped 3 in the last")


def test_a_bug_in_a_callback_is_a_drop_with_one_traceback(graph, capfd):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    for node.fails_on in (SECOND, 2 * SECOND):
        camera.send(image_message(node.fails_on))
    camera.send(image_message(3 * SECOND))
    assert node.stamps == [3 * SECOND]
    assert node.monitor.drops == {"ZeroDivisionError in on_image": 2}
    assert capfd.readouterr().err.count("Traceback") == 1


def test_a_wrong_value_is_refused_when_it_is_set(graph):
    node = graph.add(EchoNode(**graph.options({"autostart": False})))
    (wrong,) = node.set_parameters([Parameter("image_transport", value="smoke")])
    assert not wrong.successful and wrong.reason == (
        "parameter 'image_transport': expected 'raw' or 'compressed', got 'smoke'"
    )
    (right,) = node.set_parameters([Parameter("image_transport", value="compressed")])
    assert right.successful and node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_overrides_of_the_quality_of_service_are_refused(graph, capfd):
    name = "qos_overrides./image.subscription.depth"
    node = graph.add(EchoNode(**graph.options({name: 1, "autostart": False})))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert (
        f"parameter '{name}': expected none, the quality of service of every topic is fixed" in capfd.readouterr().err
    )


PHASES = {"unconfigured": (), "inactive": (1,), "active": (1, 3)}  # the transitions that lead there


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("transition", range(1, 8))
def test_every_transition_in_every_state_leaves_a_sound_node(graph, phase, transition):
    """Those that the state does not have are refused; the node and rcl agree on what it is afterwards."""
    node = graph.add(EchoNode(**graph.options({"autostart": False})))
    client = graph.peer().create_client(ChangeState, "echo/change_state")
    graph.spin_until(client.service_is_ready)

    def change(number):
        call = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        graph.spin_until(call.done)
        return call.result().success

    assert all(change(number) for number in PHASES[phase])
    possible = {"unconfigured": {1, 5}, "inactive": {2, 3, 6}, "active": {4, 7}}[phase]
    assert change(transition) == (transition in possible)
    assert node._state_machine.current_state[1] == node._phase
    assert node.active == (node._phase == "active")


def test_an_error_leads_back_to_the_beginning(graph):
    node = graph.start(EchoNode)
    assert node.on_error(None) == TransitionCallbackReturn.SUCCESS
    assert (node._phase, node.active) == ("unconfigured", False) and node.history[-1] == "cleanup"


# --- Time


def test_duplicates_and_late_images_are_drops(graph):
    node = graph.start(EchoNode)
    Camera(graph, node).send(*(image_message(round(t * SECOND)) for t in (1.0, 1.0, 1.2, 1.1, 1.3)))
    assert node.stamps == [SECOND, 1.2 * SECOND, 1.3 * SECOND]
    assert node.monitor.drops == {"duplicate stamp": 1, "late stamp": 1}
    assert "reset" not in node.history


def test_time_going_backwards_resets_and_is_said(graph, capfd):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    camera.send(*(image_message(t * SECOND) for t in (8, 9, 3, 4, 5, 6)))
    assert node.stamps == [8 * SECOND, 9 * SECOND, 5 * SECOND, 6 * SECOND]
    assert node.history.count("reset") == 1 and node.monitor.drops == {"late stamp": 2}
    sentence = "time on /image went backwards to 5.000 s: starting afresh"
    assert sentence in capfd.readouterr().err
    camera.hears(sentence)


def test_a_straggler_and_a_stamp_from_the_future_are_drops(graph):
    node = graph.start(EchoNode)
    ahead = node.get_clock().now().nanoseconds + 100 * SECOND
    Camera(graph, node).send(*(image_message(t) for t in (8 * SECOND, SECOND, ahead, 9 * SECOND)))
    assert node.stamps == [8 * SECOND, 9 * SECOND] and "reset" not in node.history
    assert node.monitor.drops == {"late stamp": 1, "stamp from the future": 1}


def test_a_clock_that_goes_backwards_resets_at_once(graph, capfd):
    node = graph.start(EchoNode, use_sim_time=True)
    camera = Camera(graph, node)
    clock = camera.peer.create_publisher(Clock, "/clock", CLOCK)
    graph.spin_until(lambda: clock.get_subscription_count())
    for second in (8, 9, 3, 4):
        clock.publish(Clock(clock=fill_stamp(Time(), second * SECOND)))
        graph.spin_until(lambda t=second: node.get_clock().now().nanoseconds == t * SECOND)
        camera.send(image_message(second * SECOND))
    assert node.stamps == [8 * SECOND, 9 * SECOND, 3 * SECOND, 4 * SECOND]
    assert node.history.count("reset") == 1 and not node.monitor.drops
    assert "/clock went backwards: starting afresh" in capfd.readouterr().err


def test_simulated_time_that_nobody_publishes_does_not_stop_the_node(graph):
    node = graph.start(EchoNode, use_sim_time=True)
    assert node.get_clock().now().nanoseconds == 0
    camera = Camera(graph, node)
    camera.send(image_message(SECOND))
    camera.hears("processed=1")


# --- What the diagnostics say of images and results


def test_images_that_were_overwritten_unseen_are_drops(graph):
    """The queue holds three: of nine that come while the node is busy it sees the newest three."""
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    camera.send(image_message(SECOND))
    for hour in range(2, 11):
        camera.publisher.publish(image_message(hour * HOUR))
    graph.spin_until(lambda: node.monitor.drops["overwritten unseen"] == 6)
    assert node.stamps == [SECOND, 8 * HOUR, 9 * HOUR, 10 * HOUR]
    camera.hears("drops.overwritten unseen=6")
    camera.hears("processed=4")


def test_a_node_that_lags_behind_takes_the_newest_image(graph):
    """Images a microsecond apart, as by their stamps: the last one has waited for longer when the node comes to it."""
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    for step in range(3):
        camera.publisher.publish(image_message(SECOND + 1000 * step))
    graph.spin_until(lambda: node.images)
    graph.spin_until(lambda: node.monitor.drops["overwritten unseen"] == 2)
    assert node.stamps == [SECOND + 2000]


def test_a_failure_of_one_image_leaves_the_ones_behind_it(graph):
    node = graph.start(EchoNode)
    node.fails_on = HOUR
    camera = Camera(graph, node)
    for hour in (1, 2):
        camera.publisher.publish(image_message(hour * HOUR))
    graph.spin_until(lambda: node.stamps == [2 * HOUR])
    assert node.monitor.drops.total() == 1


def test_cameras_of_one_process_have_the_same_share_under_overload(graph):
    """Each has images waiting when the process comes to it: each gets its newest one tracked."""
    peer = graph.peer("cameras")
    nodes = [graph.add(EchoNode(namespace=name, **graph.options({}))) for name in ("a", "b", "c")]
    publishers = [peer.create_publisher(Image, f"{name}/image", SENSOR_DATA) for name in ("a", "b", "c")]
    assert all(node.start() for node in nodes)
    graph.spin_until(lambda: all(publisher.get_subscription_count() == 1 for publisher in publishers))
    for round_ in range(1, 4):
        for step in range(30):
            for publisher in publishers[: 1 if step % 3 else 3]:  # the first camera is three times as fast
                publisher.publish(image_message(round_ * SECOND + 1000 * step))
        graph.spin_until(lambda n=round_: all(len(node.images) == n for node in nodes))
    assert [node.monitor.processed for node in nodes] == [3, 3, 3]
    # Of the first round only what was left in the queue is known of, three images.
    expected = [2 + 29 + 29, 2 + 9 + 9, 2 + 9 + 9]
    graph.spin_until(lambda: [node.monitor.drops["overwritten unseen"] for node in nodes] == expected)


def test_two_publishers_on_a_topic_number_their_images_each_for_itself(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    camera.send(*(image_message(second * SECOND) for second in range(1, 6)))
    second_camera = camera.peer.create_publisher(Image, "image", SENSOR_DATA)
    graph.spin_until(lambda: second_camera.get_subscription_count() == 1 and node.count_publishers("image") == 2)
    for second in range(6, 10):
        for publisher in (camera.publisher, second_camera):
            publisher.publish(image_message(second * SECOND + (publisher is second_camera)))
            seen = len(node.images)
            graph.spin_until(lambda n=seen: len(node.images) > n)
    graph.spin_for(0.6)
    assert not node.monitor.drops


def test_only_what_has_a_result_is_processed(graph):
    node = graph.start(EchoNode)
    node.gives_up_on = 2 * SECOND
    Camera(graph, node).send(*(image_message(second * SECOND) for second in (1, 2, 3)))
    assert node.monitor.processed == 2


def test_a_node_without_results_of_most_images_is_faulty(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    camera.send(image_message(SECOND))
    for hour in range(2, 14):
        camera.publisher.publish(image_message(hour * HOUR))
    camera.hears("results of only 4 of the 13 images")
    camera.hears_level(Level.ERROR)


def test_ages_count_from_stamps_of_this_clock_and_else_from_the_sending(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    camera.send(image_message(SECOND))  # a recording's stamp
    assert node.monitor.facts["age_since"] == "sending"
    assert 0 <= node.monitor.stage("age").durations[0] <= node.monitor.stage("end to end").durations[0] < PATIENCE
    exposed = node.get_clock().now().nanoseconds - 5 * SECOND  # taken five seconds ago
    camera.send(image_message(exposed))
    assert node.monitor.facts["age_since"] == "stamp"
    assert 5 <= node.monitor.stage("age").durations[1] <= node.monitor.stage("end to end").durations[1]
    camera.hears("latency.end to end.p99_ms=")


def test_old_results_are_warned_of(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    now = node.get_clock().now().nanoseconds
    camera.send(*(image_message(now - 4 * SECOND + number) for number in range(3)))
    camera.hears("s after their images (half of the last 5 s)")
    camera.hears_level(Level.WARN)


def test_levels_follow_the_state_and_what_is_heard(graph):
    node = graph.add(EchoNode(**graph.options({"image_timeout": 3.0, "autostart": False})))
    camera_peer = graph.peer()
    diagnostics = Diagnostics(camera_peer)
    graph.spin_until(lambda: diagnostics.level() == Level.STALE and "unconfigured" in diagnostics.latest())
    node.trigger_configure()
    node.trigger_activate()
    graph.spin_until(lambda: diagnostics.level() == Level.OK)
    graph.spin_until(lambda: diagnostics.level() == Level.STALE and "no image on /image" in diagnostics.latest())
    camera = Camera(graph, node)
    camera.send(image_message(SECOND))
    node.fails_on = 2 * SECOND
    camera.send(image_message(2 * SECOND))
    graph.spin_until(lambda: diagnostics.level() == Level.ERROR and "ZeroDivisionError" in diagnostics.latest())


def test_a_failed_configure_is_an_error_until_one_succeeds(graph):
    node = graph.add(EchoNode(**graph.options({"model": "missing.onnx", "autostart": False})))
    diagnostics = Diagnostics(graph.peer())
    node.trigger_configure()
    sentence = "cannot configure: expected a model, there is no missing.onnx"
    graph.spin_until(lambda: diagnostics.level() == Level.ERROR and sentence in diagnostics.latest())
    node.set_parameters([Parameter("model", value="good.onnx")])
    node.trigger_configure()
    graph.spin_until(lambda: diagnostics.level() == Level.STALE and sentence not in diagnostics.latest())


def test_an_alarm_rings_once_and_can_be_set_again(graph):
    node = graph.start(EchoNode)
    rings = []
    alarm = node.alarm(lambda: rings.append(None))
    for expected in (1, 2):
        alarm.set(0.01)
        graph.spin_until(lambda n=expected: len(rings) == n)
        graph.spin_for(0.1)
        assert len(rings) == expected


def test_a_node_without_images_wakes_up_only_to_look_after_itself(graph):
    node = graph.start(EchoNode)
    running = [timer.timer_period_ns / SECOND for timer in node.timers if not timer.is_canceled()]
    assert running and min(running) >= 0.5


# --- The other ends of the topics


def test_a_camera_that_never_comes_is_missed(graph):
    node = graph.start(EchoNode, image_timeout=0.5)
    diagnostics = Diagnostics(graph.peer())
    graph.spin_until(lambda: diagnostics.says("no image on /image for"))
    assert diagnostics.says("nobody publishes there") and node.active


def test_a_camera_with_the_other_transport_is_pointed_at(graph):
    graph.start(EchoNode, image_timeout=0.5)
    peer = graph.peer()
    diagnostics = Diagnostics(peer)
    peer.create_publisher(CompressedImage, "image/compressed", SENSOR_DATA)
    graph.spin_until(lambda: diagnostics.says("but on /image/compressed: set image_transport to compressed"))


def test_a_camera_that_dies_is_missed_until_it_is_back(graph):
    node = graph.start(EchoNode, image_timeout=0.5)
    camera = Camera(graph, node)
    camera.send(image_message(SECOND))
    camera.peer.destroy_publisher(camera.publisher)
    camera.hears("no image on /image for")
    camera.publisher = camera.peer.create_publisher(Image, "image", SENSOR_DATA)
    graph.spin_until(lambda: camera.publisher.get_subscription_count() == 1)
    stamps = iter(range(2, 1000))

    def recovered():
        camera.publisher.publish(image_message(next(stamps) * SECOND))
        graph.spin_for(0.05)
        return "no image" not in camera.diagnostics.latest()

    graph.spin_until(recovered)


def test_a_publisher_with_another_quality_of_service_is_diagnosed(graph):
    """A camera that promises less often than its subscriber wants: silence in ROS, a sentence here."""
    node = graph.start(EchoNode)
    wanted = QoSProfile(depth=1, deadline=Duration(seconds=1), reliability=ReliabilityPolicy.RELIABLE)
    node.subscribe(String, "words", lambda message: None, wanted)
    peer = graph.peer("talker")
    diagnostics = Diagnostics(peer)
    talker = peer.create_publisher(String, "words", SENSOR_DATA)
    graph.spin_until(lambda: diagnostics.says("nothing arrives from /talker on /words: incompatible quality"))
    peer.destroy_publisher(talker)
    graph.spin_until(lambda: "/words" not in diagnostics.latest())


def test_ends_that_fit_are_no_reason_to_warn(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node, QoSProfile(depth=1, deadline=Duration(seconds=1)))
    collect(camera.peer, Header, "echo/echo", SENSOR_DATA)
    graph.spin_until(lambda: node.echo.get_subscription_count() == 1)
    camera.send(image_message(SECOND))
    camera.hears("processed=1")
    assert not node.monitor.warnings


def test_the_diagnostics_tell_how_many_subscribers_a_publisher_has_found(graph):
    node = graph.start(EchoNode)
    diagnostics = Diagnostics(graph.peer())
    graph.spin_until(lambda: diagnostics.says("subscribers./echo/echo=0"))
    collect(graph.peer("listener"), Header, "echo/echo", RESULTS)
    graph.spin_until(lambda: diagnostics.says("subscribers./echo/echo=1"))
    assert node.echo.get_subscription_count() == 1


def test_the_diagnostics_tell_which_image_came_last_and_which_is_answered(graph):
    """What is forgotten as time starts again is not taken any more: nobody waits for its result."""
    node = graph.start(EchoNode)
    node.gives_up_on = 9 * SECOND
    camera = Camera(graph, node)
    camera.send(image_message(8 * SECOND), image_message(9 * SECOND))
    camera.hears(f"taken./image={9 * SECOND}")
    assert f"answered./image={8 * SECOND}" in camera.diagnostics.latest()
    node._start_afresh("time went backwards")
    assert not any(key.startswith("taken.") for key in node.monitor.facts)


def test_results_wait_for_who_has_been_busy(graph):
    node = graph.start(EchoNode)
    heard = collect(graph.peer("listener"), Header, "echo/echo", RESULTS)
    graph.spin_until(lambda: node.echo.get_subscription_count() == 1)
    for frame in range(10):
        node.echo.publish(Header(frame_id=str(frame)))
    graph.spin_until(lambda: len(heard) == 10)
    assert [header.frame_id for header in heard] == [str(frame) for frame in range(10)]


def test_a_subscriber_that_cannot_hear_us_is_diagnosed(graph):
    graph.start(EchoNode)
    peer = graph.peer("listener")
    diagnostics = Diagnostics(peer)
    collect(peer, Header, "echo/echo", QoSProfile(depth=1, deadline=Duration(seconds=1)))
    graph.spin_until(lambda: diagnostics.says("nothing reaches /listener on /echo/echo: incompatible quality"))


def test_a_publisher_of_another_type_is_diagnosed(graph):
    graph.start(EchoNode)
    diagnostics = Diagnostics(graph.peer())
    with opened_graph() as other:  # a participant cannot have two types on one topic
        other.peer("liar").create_publisher(DiagnosticArray, "image", SENSOR_DATA)
        sentence = "from /liar on /image: it expects sensor_msgs/msg/Image, the publisher offers diagnostic_msgs"
        graph.spin_until(lambda: diagnostics.says(sentence))


# --- The process

NODE = """
import sys, time
from camtrack_core.config import ImageNodeParameters
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode, run

class Parameters(ImageNodeParameters):
    threshold: float = 0.5
    finish: bool = False
    hangs: bool = False

class Plain(CamtrackNode):
    def __init__(self):
        super().__init__("plain", Parameters)
    def configure(self, parameters):
        ImageInput(self, "image", lambda *_: None, parameters)
        if parameters.hangs:
            print("it is being configured")
            time.sleep(60)
    def activate(self):
        self.get_logger().info("it is up")
        if self.parameters.finish:
            self.repeat(0.1, lambda: self.finish(5))
    def cleanup(self):
        self.get_logger().info("it is cleaned up")

sys.exit(run(Plain))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_cleanly(number):
    process = start_process(NODE)
    read_until(process, "it is up")
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "it is cleaned up" in output and "Traceback" not in output


def test_a_second_signal_ends_a_process_that_is_being_configured():
    process = start_process(NODE, "-p", "hangs:=true")
    read_until(process, "it is being configured")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in output


def test_a_failed_autostart_ends_the_process_with_a_sentence():
    process = start_process(NODE, "-p", "threshold:=high")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in output
    assert "cannot configure: parameter 'threshold': expected a valid number" in output and "'high'" in output


def test_a_node_can_end_its_process():
    process = start_process(NODE, "-p", "finish:=true")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
