"""The paths of the Open Inference Protocol over HTTP."""

import pytest

from inference_svc.doors.oip.http_paths import Call, call_at
from service_kit.errors import NotFound


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v2", Call("metadata")),
        ("/v2/", Call("metadata")),
        ("/v2/health/live", Call("live")),
        ("/v2/health/ready", Call("ready")),
        ("/v2/models/reviews", Call("metadata", "reviews")),
        ("/v2/models/reviews/ready", Call("ready", "reviews")),
        ("/v2/models/reviews/infer", Call("infer", "reviews")),
        ("/v2/models/reviews/versions/7", Call("metadata", "reviews", "7")),
        ("/v2/models/reviews/versions/7/ready", Call("ready", "reviews", "7")),
        ("/v2/models/reviews/versions/7/infer", Call("infer", "reviews", "7")),
        ("/v2/models/%72eviews/infer", Call("infer", "reviews")),
        ("/v2/models/ready", Call("metadata", "ready")),
        ("/v2/models/infer/infer", Call("infer", "infer")),
        ("/v2/models/versions", Call("metadata", "versions")),
        ("/v2/models/a/versions/x%2Finfer", Call("metadata", "a", "x/infer")),
        ("/v2/models/a/versions/%2e%2e/infer", Call("infer", "a", "..")),
    ],
)
def test_a_path_stands_for_its_call(path: str, call: Call) -> None:
    assert call_at(path) == call


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "v2",
        "/v1/models",
        "/v2/health",
        "/v2/health%2Flive",
        "/v2%2Fhealth/live",
        "/v2/health/live/",
        "//v2/health/live",
        "/v2/models",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/reviews/",
        "/v2/models/reviews/infer/",
        "/v2/models/reviews/nothing",
        "/v2/models/reviews/versions",
        "/v2/models/reviews/versions/",
        "/v2/models/reviews/versions//infer",
        "/v2/models/reviews/versions/1/nothing",
    ],
)
def test_there_is_nothing_elsewhere(path: str) -> None:
    with pytest.raises(NotFound, match="there is nothing at"):
        call_at(path)


@pytest.mark.parametrize(
    "name", ["a%2Fb", "reviews%2Finfer", "reviews%2fready", "Reviews", "%00", "%ff", "..", "a%20"]
)
def test_a_name_that_no_model_can_have_is_an_unknown_model(name: str) -> None:
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1/infer"):
        with pytest.raises(NotFound, match="there is no such model"):
            call_at(path)


def test_a_path_says_which_methods_it_takes() -> None:
    assert call_at("/v2/models/reviews/infer").verbs == ("POST",)
    assert call_at("/v2/models/reviews/ready").verbs == ("GET", "HEAD")
