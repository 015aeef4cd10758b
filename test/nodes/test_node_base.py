"""The base node: parameters, lifecycle, levels, the other ends of its topics."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from echo_helpers import SECOND, Camera, EchoNode
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.duration import Duration
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_helpers import Diagnostics, collect, image_message, opened_graph
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from camtrack_core.monitor import Level
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA


@pytest.fixture
def graph():
    with opened_graph() as graph:
        yield graph


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


# --- Parameters and transitions


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


PHASES = {"unconfigured": (), "inactive": (1,), "active": (1, 3), "finalized": (5,)}  # the transitions that lead there


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
    possible = {"unconfigured": {1, 5}, "inactive": {2, 3, 6}, "active": {4, 7}, "finalized": set()}[phase]
    assert change(transition) == (transition in possible)
    assert node._state_machine.current_state[1] == node._phase
    assert node.active == (node._phase == "active")


ERRORS = {  # transitions that may fail: the ones before them, and the state in which they are made
    "configure": ([], State.TRANSITION_STATE_CONFIGURING),
    "activate": (["configure"], State.TRANSITION_STATE_ACTIVATING),
    "deactivate": (["configure", "activate"], State.TRANSITION_STATE_DEACTIVATING),
    "cleanup": (["configure"], State.TRANSITION_STATE_CLEANINGUP),
}


@pytest.mark.parametrize("transition", ERRORS)
def test_an_error_in_any_transition_leads_back_to_the_beginning(graph, monkeypatch, capfd, transition):
    """One that no hook makes, so that rclpy is told of it; then the node can be configured as if nothing had been."""
    before, state = ERRORS[transition]
    node = graph.add(EchoNode(**graph.options({"autostart": False})))
    for done in before:
        getattr(node, f"trigger_{done}")()
    with monkeypatch.context() as broken:
        broken.setitem(node._callbacks, state, lambda _: {}["rcl has had enough"])
        assert getattr(node, f"trigger_{transition}")() == TransitionCallbackReturn.ERROR
    assert node._state_machine.current_state[1] == node._phase == "unconfigured" and not node.active
    assert node.history[-1] == "cleanup" and node.count_subscribers("image") == 0
    assert "a transition failed in rclpy while the node was" in capfd.readouterr().err
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS and node.active


# --- What the diagnostics say of the node


def test_levels_follow_the_state_and_what_is_heard(graph):
    node = graph.add(EchoNode(**graph.options({"image_timeout": 8.0, "autostart": False})))
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
    assert running == [1.0]  # the reports': what is watched is looked at right before them


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
