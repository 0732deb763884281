"""The description of a load, and its JSON."""

from dataclasses import replace

import pytest

from mesh_cli.errors import BadInput
from mesh_cli.load import ClosedLoop, LoadSpec, OpenLoop
from mesh_cli.load.plan.spec import spec_from_json

SPEC = LoadSpec("127.0.0.1:8000", "reviews", OpenLoop(100), texts=("a", "b", "ü", "d", "e"))


@pytest.mark.parametrize("loop", [OpenLoop(2.5, "poisson", 3), ClosedLoop(4)])
def test_a_spec_survives_json(loop: OpenLoop | ClosedLoop) -> None:
    spec = replace(SPEC, loop=loop, bodies=(b"\xff\x00",))
    assert spec_from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "no load"),
        ('{"loop": {"clients": 1}, "address": "a:1", "model": "m"}', "no texts"),
        ('{"loop": {"clients": 0}, "address": "a:1", "model": "m", "texts": ["x"]}', "clients"),
        ('{"loop": {"rate": 1}, "address": "a", "model": "m", "texts": ["x"]}', "host:port"),
        ('{"loop": {"rate": 1, "x": 1}, "address": "a:1", "model": "m", "texts": ["x"]}', "'x'"),
    ],
)
def test_a_document_that_is_no_spec_is_bad_input(document: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        spec_from_json(document)
