"""A caller that sends too many calls a second is refused, where callers can be told apart."""

from pathlib import Path

import httpx
import pytest

from control_plane.topology import Limits
from tests.twins.toy_mesh import ToyMesh, running_mesh

FEW = Limits(calls_per_second=5)


async def statuses(mesh: ToyMesh, calls: int) -> list[httpx.Response]:
    return [await mesh.http.get("/v1/models/reviews") for _ in range(calls)]


async def test_calls_above_the_limit_are_refused_with_words(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, limits=FEW, published_on="0.0.0.0") as mesh:
        answers = await statuses(mesh, 40)
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == httpx.codes.OK
        assert refused
        assert "calls a second" in refused[0].json()["message"]
        assert refused[0].headers["retry-after"] == "1"


async def test_a_client_cannot_name_itself_another_subject(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, limits=FEW, published_on="0.0.0.0") as mesh:
        answers = [
            await mesh.http.get("/v1/models/reviews", headers={"x-mesh-subject": f"s{number}"})
            for number in range(40)
        ]
        assert 429 in {answer.status_code for answer in answers}


@pytest.mark.parametrize("limits", [FEW, Limits(calls_per_second=0)])
async def test_on_loopback_and_without_a_limit_nobody_is_refused(
    tmp_path: Path, limits: Limits
) -> None:
    published = "" if limits is FEW else "0.0.0.0"
    async with running_mesh(tmp_path, limits=limits, published_on=published) as mesh:
        assert {answer.status_code for answer in await statuses(mesh, 40)} == {200}
