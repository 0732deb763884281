"""The line that `mesh reload` shows while it waits."""

import pytest

from mesh.v1 import reload_pb2 as pb
from mesh_cli.terminal.reload_progress import line


def _fleet(*replicas: tuple[str, pb.ModelState, str]) -> pb.Fleet:
    return pb.Fleet(
        replicas=[
            pb.Replica(
                id=name,
                models=[
                    pb.ReplicaModel(name="reviews", version="1", state=pb.MODEL_STATE_SERVING),
                    pb.ReplicaModel(name="reviews", version="2", state=state, step=step),
                    pb.ReplicaModel(name="other", version="9", state=pb.MODEL_STATE_PREPARING),
                ],
            )
            for name, state, step in replicas
        ]
    )


@pytest.mark.parametrize(
    ("replicas", "shown"),
    [
        (
            [("a", pb.MODEL_STATE_PREPARING, "warm-up"), ("b", pb.MODEL_STATE_READY, "")],
            "preparing every replica: a: warm-up, b: ready",
        ),
        ([("a", pb.MODEL_STATE_PREPARING, "")], "preparing every replica: a: waits"),
        ([("a", pb.MODEL_STATE_FAILED, "golden set")], "preparing every replica: a: failed"),
        ([("a", pb.MODEL_STATE_SERVING, "")], "switching the fleet"),
    ],
)
def test_the_line_shows_each_replica_that_prepares_the_model(
    replicas: list[tuple[str, pb.ModelState, str]], shown: str
) -> None:
    assert line(_fleet(*replicas), "reviews") == shown
