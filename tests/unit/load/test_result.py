"""Percentiles, windows and the sampling of answers, on rows made by hand."""

from array import array

import pytest

from mesh.v1 import predict_pb2
from mesh_cli.load import ClosedLoop, Event, LoadSpec, Server
from mesh_cli.load.results.percentiles import latency_summary, percentile
from mesh_cli.load.results.recorder import Recorder
from mesh_cli.load.results.result import LoadResult, from_recorder, merged

SPEC = LoadSpec("h:1", "reviews", ClosedLoop(1), ("x",), duration_s=10.0, texts_per_request=4)


def _result(rows: list[tuple[float, float, int]]) -> LoadResult:
    """A result that begins at 100 s from rows of moment, latency and code."""
    recorder = Recorder()
    recorder.codes.append("UNAVAILABLE")
    recorder.messages["UNAVAILABLE"] = "no healthy upstream"
    recorder.due = array("d", [due for due, _, _ in rows])
    recorder.latency = array("d", [latency for _, latency, _ in rows])
    recorder.code = array("H", [code for _, _, code in rows])
    return from_recorder(SPEC, recorder, 100.0, cpu_s=0.5)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 1001)]
    assert [percentile(values, p) for p in (50, 90, 99, 99.9, 100)] == [500, 900, 990, 999, 1000]
    assert percentile([7.0], 99.9) == 7.0
    assert percentile([], 50) is None
    assert latency_summary([0.002, 0.004])["mean"] == pytest.approx(3.0)


def test_warm_up_and_failures_do_not_count_as_latency() -> None:
    result = _result([(99.9, 9.0, 0), (100.0, 0.001, 0), (101.0, 0.5, 1), (102.5, 0.003, 0)])
    summary = result.summary()
    assert (summary["requests"], summary["failed"]) == (3, 1)
    assert summary["errors"] == {"UNAVAILABLE": 1}
    assert summary["errorMessages"] == {"UNAVAILABLE": "no healthy upstream"}
    assert summary["latencyMs"]["max"] == pytest.approx(3.0)
    assert [second["requests"] for second in summary["timeline"]] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert [second["errors"] for second in summary["timeline"]][:3] == [0, 1, 0]


def test_throughput_counts_answers_by_when_they_arrived() -> None:
    """One due before the measured part arrived in it; one due in it arrived after it."""
    result = _result([(99.0, 2.0, 0), (105.0, 0.1, 0), (109.0, 2.0, 0)])
    assert result.throughput() == pytest.approx(0.2)
    assert result.summary()["textsPerSecond"] == pytest.approx(0.8)


def test_latencies_during_an_event_are_apart_from_all_others() -> None:
    rows = [
        (101.0, 0.5, 0),  # over before it
        (101.5, 1.0, 0),  # still in flight when it began
        (102.2, 0.01, 0),  # in it
        (103.4, 0.02, 0),  # within a second after it
        (103.6, 0.03, 0),  # later
    ]
    result = _result(rows).with_events([Event("reload", 102.0, 102.5)])
    inside, outside = result.around_events()
    assert inside == [1.0, 0.01, 0.02]
    assert outside == [0.5, 0.03]
    assert result.summary()["events"][0]["beginS"] == pytest.approx(2.0)


def test_overlapping_windows_become_one() -> None:
    assert merged(iter([(5, 6), (1, 3), (2, 4), (4, 4.5)])) == [(1, 4.5), (5, 6)]


def test_answers_beyond_the_limit_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_cli.load.results.recorder.KEPT_ANSWERS", 100)
    recorder = Recorder()
    for number in range(1000):
        answer = predict_pb2.PredictResponse(
            model=predict_pb2.ServedModel(version="1" if number < 500 else "2"), replica="r"
        )
        recorder.answered(0.0, "OK", answer.SerializeToString())
    assert recorder.every == 16
    rows = [row for row, _ in recorder.kept]
    assert rows == list(range(0, 1000, 16))
    recorder.due = array("d", [100.0 + number / 100 for number in range(1000)])
    result = from_recorder(SPEC, recorder, 100.0, 0.1)
    assert dict(result.served()) == {Server("1", "", "r"): 32, Server("2", "", "r"): 31}
    assert result.summary()["servedSampledOneIn"] == 16


def test_a_generator_lags_when_more_than_one_in_a_hundred_is_late() -> None:
    recorder = Recorder()
    recorder.lag = array("d", [0.0001] * 99 + [0.02])
    assert not from_recorder(SPEC, recorder, 100.0, 0.1).generator.lagging
    recorder.lag = array("d", [0.0001] * 9 + [0.02])
    generator = from_recorder(SPEC, recorder, 100.0, 0.1).generator
    assert generator.lagging
    assert generator.lag_max_ms == pytest.approx(20)
