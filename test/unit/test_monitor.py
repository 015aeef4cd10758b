"""What a running node knows about itself: latencies, rate, drops and warnings of a period."""

from __future__ import annotations

import pytest

from camtrack_core.monitor import Level, Monitor, StageTimer


def test_stage_timer_remembers_what_succeeded():
    times = iter([0.0, 1.0, 10.0, 12.0, 20.0])
    timer = StageTimer(clock=lambda: next(times))
    for _ in range(2):
        with timer:
            pass
    with pytest.raises(ValueError), timer:
        raise ValueError
    assert list(timer.durations) == [1.0, 2.0]
    assert timer.percentile(50) == 1.5 and timer.percentile(100) == 2.0


def test_monitor_reports_a_period():
    now = 100.0
    monitor = Monitor(clock=lambda: now)
    monitor.processed = 10
    monitor.drop("late")
    monitor.event("something happened")
    monitor.warnings["camera"], monitor.levels["camera"] = "no image", Level.WARN
    now = 102.0
    report = monitor.report()
    assert report.rate == 5.0 and report.values["drops.late"] == "1"
    assert report.level is Level.WARN
    assert report.warnings == ("no image", "something happened", "dropped 1 in the last 2 s")
    now = 103.0
    report = monitor.report()
    assert report.rate == 0.0 and report.warnings == ("no image",) and report.values["processed"] == "10"


def test_of_several_events_about_one_subject_the_last_is_reported():
    monitor = Monitor()
    for metres in (1, 2):
        monitor.event(f"jumps by {metres} m", subject="jumps")
    monitor.event("something else")
    assert monitor.report().warnings == ("jumps by 2 m", "something else")
    monitor.event("jumps by 3 m", subject="jumps")
    assert monitor.report().warnings == ("jumps by 3 m",)


def test_the_level_of_a_report_is_the_worst_of_its_warnings():
    monitor = Monitor()
    assert monitor.report().level is Level.OK
    monitor.warnings |= {"camera": "no image", "ground": "unknown"}
    monitor.levels["camera"] = Level.STALE
    assert monitor.report().level is Level.STALE
    monitor.event("a bug", Level.ERROR)
    assert monitor.report().level is Level.ERROR  # a fault is worse than silence
    assert monitor.report().level is Level.STALE
    del monitor.warnings["camera"]
    assert monitor.report().level is Level.WARN
