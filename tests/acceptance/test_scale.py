"""Replicas come and go under traffic, and no request fails."""

import asyncio

import pytest

from tests.whole_mesh.running_mesh import Mesh
from tests.whole_mesh.traffic import Traffic

FOUR = ["replica-1", "replica-2", "replica-3", "replica-4"]


async def test_replicas_join_and_leave_under_traffic(mesh: Mesh, reviews: str) -> None:
    traffic = Traffic(mesh.address)
    async with asyncio.TaskGroup() as group:
        # A request that fails raises here, and fails the test.
        group.create_task(traffic.run())
        await traffic.answered_by("replica-1", "replica-2")

        added = await asyncio.to_thread(mesh.json, "scale", "4")
        assert added == {"replicas": FOUR, "added": FOUR[2:], "removed": []}
        await traffic.answered_by(*FOUR)

        removed = await asyncio.to_thread(mesh.json, "scale", "2")
        assert removed["removed"] == ["replica-4", "replica-3"]
        assert set(await traffic.go_on()) <= {"replica-1", "replica-2"}
        traffic.stop()
    print(f"{traffic.answers.total()} requests by {dict(traffic.answers)}, failed: 0")


def test_every_verb_knows_the_scaled_replicas(mesh: Mesh, reviews: str) -> None:
    mesh.run("scale", "3")
    try:
        status = mesh.json("status")
        names = [part["name"] for part in status["parts"] if part["name"].startswith("replica-")]
        assert status["healthy"]
        assert names == FOUR[:3]
        fleet = mesh.json("fleet")["replicas"]
        assert {replica["id"]: replica["eligible"] for replica in fleet} == dict.fromkeys(
            names, True
        )
        assert "serving" in mesh.run("logs", "replica-3").stdout
    finally:
        mesh.run("scale", "2")


@pytest.mark.parametrize("count", ["0", "17"])
def test_a_count_out_of_range_is_refused_with_the_range(mesh: Mesh, count: str) -> None:
    result = mesh.run("scale", count, check=False)
    assert result.returncode == 2
    assert "1 to 16" in result.stderr
