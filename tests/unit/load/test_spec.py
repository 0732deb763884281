"""What a load is made of: arrivals, texts, encoded requests, durations."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mesh.v1 import predict_pb2
from mesh_cli.errors import BadInput
from mesh_cli.load import ClosedLoop, LoadSpec, OpenLoop, read_texts
from mesh_cli.load.plan.arrivals import offsets
from mesh_cli.load.plan.spec import from_json
from mesh_cli.load.reloads import moments
from mesh_cli.load.wire.encode import encode
from mesh_cli.terminal.durations import seconds

SPEC = LoadSpec("127.0.0.1:8000", "reviews", OpenLoop(100), texts=("a", "b", "ü", "d", "e"))


def test_constant_arrivals_are_evenly_spaced() -> None:
    assert list(offsets(OpenLoop(4), 1.0)) == [0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_repeat_with_their_seed_and_keep_their_rate() -> None:
    first = list(offsets(OpenLoop(1000, "poisson", seed=1), 20))
    assert first == list(offsets(OpenLoop(1000, "poisson", seed=1), 20))
    assert first != list(offsets(OpenLoop(1000, "poisson", seed=2), 20))
    assert first == sorted(first)
    assert len(first) == pytest.approx(20_000, rel=0.03)
    gaps = [b - a for a, b in pairwise(first)]
    # Exponential: a share of 1/e of the gaps is longer than the mean.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_every_text_is_sent_once_before_any_is_sent_again() -> None:
    requests = [predict_pb2.PredictRequest.FromString(r) for r in encode(SPEC)]
    assert [list(request.texts) for request in requests] == [["a"], ["b"], ["ü"], ["d"], ["e"]]
    assert {request.model for request in requests} == {"reviews"}
    pairs = encode(replace(SPEC, texts_per_request=2))
    texts = [list(predict_pb2.PredictRequest.FromString(pair).texts) for pair in pairs]
    assert texts == [["a", "b"], ["ü", "d"], ["e", "a"]]
    more = encode(replace(SPEC, texts_per_request=12))
    assert list(predict_pb2.PredictRequest.FromString(more[0]).texts) == [*"abüde", *"abüde", *"ab"]


def test_json_requests_are_whole_http_messages() -> None:
    request = encode(replace(SPEC, protocol="json"))[2]
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/models/reviews:predict HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body) == {"texts": ["ü"]}


def test_bodies_of_other_servers_are_sent_as_they_are() -> None:
    spec = replace(SPEC, protocol="json", texts=(), bodies=(b"{}",), path="/invocations")
    assert encode(spec)[0].startswith(b"POST /invocations HTTP/1.1\r\n")
    assert encode(spec)[0].endswith(b"content-length: 2\r\n\r\n{}")


@pytest.mark.parametrize("loop", [OpenLoop(2.5, "poisson", 3), ClosedLoop(4)])
def test_a_spec_survives_json(loop: OpenLoop | ClosedLoop) -> None:
    spec = replace(SPEC, loop=loop, bodies=(b"\xff\x00",))
    assert from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ("[]", "no load"),
        ('{"loop": {"clients": 1}, "address": "a:1", "model": "m"}', "no texts"),
        ('{"loop": {"clients": 0}, "address": "a:1", "model": "m", "texts": ["x"]}', "clients"),
        ('{"loop": {"rate": 1}, "address": "a", "model": "m", "texts": ["x"]}', "host:port"),
        ('{"loop": {"rate": 1, "x": 1}, "address": "a:1", "model": "m", "texts": ["x"]}', "'x'"),
    ],
)
def test_what_is_no_load_is_bad_input(document: str, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        from_json(document)


def test_texts_are_distinct_and_their_order_can_be_drawn(tmp_path: Path) -> None:
    lines = tmp_path / "texts.txt"
    lines.write_text("one\n\ntwo\none\n  \nthree\n")
    assert read_texts(lines) == ["one", "two", "three"]
    table = tmp_path / "rows.csv"
    table.write_text('\ufeffid,review\r\n1,"a, b"\r\n2,c\r\n', encoding="utf-8")
    assert read_texts(table, "review") == ["a, b", "c"]
    samples = read_texts(None)
    assert len(samples) == len(set(samples)) > 500
    assert sorted(read_texts(None, shuffle=1)) == sorted(samples) != samples
    assert read_texts(None, shuffle=1) == read_texts(None, shuffle=1)


def test_files_without_texts_are_bad_input(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("id,review\n1,a\n")
    with pytest.raises(BadInput, match="no column 'text'; it has id, review"):
        read_texts(table)
    with pytest.raises(BadInput, match="No such file"):
        read_texts(tmp_path / "nothing.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(BadInput, match="has no texts"):
        read_texts(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="utf-8"):
        read_texts(tmp_path / "latin.txt")


def test_durations_need_a_unit() -> None:
    assert [seconds(text, "") for text in ("20s", "50ms", "1.5m")] == [20, 0.05, 90]
    for wrong in ("20", "s", "-1s", "1h"):
        with pytest.raises(BadInput, match="--duration"):
            seconds(wrong, "--duration")


def test_reloads_happen_at_each_moment_and_every_so_often() -> None:
    assert moments([5, 1], None, 20) == [1, 5]
    assert moments([5], 5, 20) == [5, 10, 15]
    assert moments([25], None, 20) == []
