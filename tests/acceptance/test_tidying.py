"""`mesh gc` shows leftovers, removes them, and leaves what is in use alone."""

from tests.whole_mesh.running_mesh import Mesh


def test_leftovers_are_shown_then_removed(mesh: Mesh, reviews: str) -> None:
    left = mesh.home / "replica-99" / "models" / reviews / "1"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(bytes(2048))
    shown = mesh.json("gc", "--dry-run")
    item = next(item for item in shown["items"] if item["name"] == "replica-99")
    assert (item["kind"], item["bytes"]) == ("replica", 2048)
    assert left.exists()
    removed = mesh.json("gc")
    assert (removed["dryRun"], removed["items"]) == (False, shown["items"])
    assert not (mesh.home / "replica-99").exists()
    assert mesh.json("gc", "--dry-run")["items"] == []
    answer = mesh.json("predict", reviews, "still here")
    assert answer["model"]["version"] == mesh.fleet_model(reviews)["servingVersion"]
