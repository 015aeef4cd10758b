"""Images of a node: broken, missing and late ones, time that jumps, and what the diagnostics say of all that."""

from __future__ import annotations

import re

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from echo_helpers import HOUR, SECOND, Camera, EchoNode
from ros_helpers import PATIENCE, collect, image_message, opened_graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from camtrack_core.monitor import Level
from camtrack_core.ros.lifecycle.qos import CLOCK, RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.image import fill_compressed
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds


@pytest.fixture
def graph():
    with opened_graph() as graph:
        yield graph


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
    said = re.compile(r"dropped (\d+) in the last")  # in one report, or in several where other programs are at work
    graph.spin_until(lambda: sum(int(n) for report in camera.diagnostics.reports() for n in said.findall(report)) == 3)


def test_a_bug_in_a_callback_is_a_drop_with_one_traceback(graph, capfd):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    for node.fails_on in (SECOND, 2 * SECOND):
        camera.send(image_message(node.fails_on))
    camera.send(image_message(3 * SECOND))
    assert node.stamps == [3 * SECOND]
    assert node.monitor.drops == {"ZeroDivisionError in on_image": 2}
    assert capfd.readouterr().err.count("Traceback") == 1


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
    camera.peer.destroy_publisher(second_camera)
    graph.spin_until(lambda: node.count_publishers("image") == 1)
    camera.send(image_message(10 * SECOND), image_message(11 * SECOND))
    graph.spin_for(1.2)  # a report, before which drops are counted
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
    exposed = (
        node.get_clock().now().nanoseconds - SECOND
    )  # taken a second ago: what is ten seconds old is of another clock
    camera.send(image_message(exposed))
    assert node.monitor.facts["age_since"] == "stamp"
    assert 1 <= node.monitor.stage("age").durations[1] <= node.monitor.stage("end to end").durations[1]
    camera.hears("latency.end to end.p99_ms=")


def test_old_results_are_warned_of(graph):
    node = graph.start(EchoNode)
    camera = Camera(graph, node)
    now = node.get_clock().now().nanoseconds
    camera.send(*(image_message(now - 4 * SECOND + number) for number in range(3)))
    camera.hears("s after their images (half of the last 5 s)")
    camera.hears_level(Level.WARN)
