import pytest

from bench.kit.engine_worker import length_sorted
from bench.kit.load_figures import Figures, busiest, medians
from bench.overload import recovery_s
from bench.serve import Comparison, Limit, section
from inference_svc.model.text_tokenizer import Tokens
from mesh_cli.load import Request


def figures(texts_per_s: float, failed: int = 0, **cpu_ms: float) -> Figures:
    return Figures(texts_per_s, 10.0, 30.0, 100, failed, 0.1, cpu_ms, {"server": 300.0})


def test_medians_add_up_requests_and_failures() -> None:
    middle = medians([figures(100, 1, envoy=1.0), figures(300, envoy=3.0), figures(200, envoy=2.0)])
    assert (middle.texts_per_s, middle.failed, middle.requests) == (200, 1, 300)
    assert middle.cpu_ms == {"envoy": 2.0}


def test_cpu_outside_the_engine_is_all_but_the_engine() -> None:
    assert figures(1, envoy=0.2, engine=1.5, replicas=0.3).outside_ms == pytest.approx(0.5)


def test_the_busiest_thread_is_the_one_that_took_most_meanwhile() -> None:
    assert busiest({1: 50.0, 2: 1.0}, {1: 50.5, 2: 4.0, 3: 2.0}) == 3.0


def test_batches_are_sorted_by_length_and_hold_every_text_once() -> None:
    texts = [Tokens([1] * length, False) for length in (9, 1, 5, 3, 7)]
    batches = length_sorted(texts, 2)
    assert sorted(len(text.ids) for batch in batches for text in batch) == [1, 3, 5, 7, 9]
    assert sorted(sorted(len(text.ids) for text in batch) for batch in batches) == [
        [1, 3],
        [5, 7],
        [9],
    ]


def test_ratios_are_against_the_limit_and_each_peer() -> None:
    served = {"champion-mesh json": [figures(400)], "peer fp32": [figures(100)]}
    table = section(Comparison([Limit(500, 2, 5)], served, 10), 64, "command")
    assert [row[:4] for row in table.rows[1:]] == [
        ("champion-mesh json", "400", "0.80", ""),
        ("peer fp32", "100", "0.20", "4.0"),
    ]


def test_recovery_ends_after_the_last_stretch_with_too_many_bad_answers() -> None:
    def requests(slow_until: float, code: str = "OK") -> list[Request]:
        due = [8 + number / 100 for number in range(1000)]
        return [
            Request(
                at, 0.5 if 10 <= at < slow_until else 0.01, code if at < slow_until else "OK", None
            )
            for at in due
        ]

    assert recovery_s(requests(10), 10, 0.1) == 0
    assert recovery_s(requests(10.9), 10, 0.1) == 1.0
    # One late answer in a stretch is no overload.
    assert recovery_s(requests(10.005), 10, 0.1) == 0
    assert recovery_s(requests(11.4, "RESOURCE_EXHAUSTED"), 10, 9.0) == 1.5
