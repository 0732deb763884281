"""What a caller whose token is for some models sees of the fleet."""

from control_plane.servicer import _visible
from mesh.v1 import reload_pb2
from service_kit.callers.caller import enter

FLEET = reload_pb2.Fleet(
    models=[reload_pb2.FleetModel(name=name) for name in ("films", "reviews")],
    replicas=[
        reload_pb2.Replica(
            id="replica-1",
            healthy=True,
            detail="films failed",
            models=[reload_pb2.ReplicaModel(name=name) for name in ("films", "reviews")],
        )
    ],
)


class Call:
    """The context of a call with a caller's headers."""

    def __init__(self, **headers: str) -> None:
        self._headers = headers

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [(f"x-mesh-{name}", value) for name, value in self._headers.items()]


def test_models_of_others_are_not_shown() -> None:
    enter(Call(subject="shop", models="reviews*"))
    shown = _visible(FLEET)
    assert [model.name for model in shown.models] == ["reviews"]
    [replica] = shown.replicas
    assert ([model.name for model in replica.models], replica.healthy) == (["reviews"], True)
    assert "films" not in str(shown)


def test_everybody_else_sees_all_of_it() -> None:
    enter(Call())
    assert _visible(FLEET) == FLEET
