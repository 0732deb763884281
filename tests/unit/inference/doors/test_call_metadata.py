"""How Envoy routed a call, read from metadata of gRPC or headers of HTTP."""

import pytest
from multidict import CIMultiDict

from inference_svc.doors.call_metadata import Routing, routing_in
from inference_svc.serving.slots import CHALLENGER, CHAMPION
from service_kit.errors import InvalidArgument


def test_a_call_that_envoy_did_not_mark_is_the_champions() -> None:
    assert routing_in({}) == Routing(CHAMPION, mirrored=False, bucket=None)


def test_the_role_and_the_mirror_are_read_whatever_the_case_of_the_headers() -> None:
    headers = CIMultiDict({"X-Mesh-Role": CHALLENGER, "X-Mesh-Mirror": "1"})
    routing = routing_in(headers)
    assert (routing.role, routing.mirrored) == (CHALLENGER, True)


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="x-mesh-role"):
        routing_in({"x-mesh-role": "king"})
