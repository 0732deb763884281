"""`mesh canary`: what it reads, what it shows, how it ends."""

from unittest.mock import create_autospec

import pytest
from typer.testing import CliRunner

from mesh.client import MeshClient
from mesh.errors import Unavailable
from mesh.v1 import reload_pb2
from mesh_cli.errors import EXIT_PAUSED, BadInput
from mesh_cli.main import app
from mesh_cli.terminal import training_progress
from mesh_cli.terminal.output import console
from mesh_cli.verbs.canary_verb import follow, parse_steps, view
from tests.twins.stub_mesh import StubMesh


@pytest.mark.parametrize(("model", "code"), [("reviews", 0), ("paused", EXIT_PAUSED)])
def test_its_exit_code_says_how_the_canary_ended(
    stub_mesh: StubMesh, monkeypatch: pytest.MonkeyPatch, model: str, code: int
) -> None:
    monkeypatch.setattr("mesh_cli.verbs.canary_verb.POLL_S", 0.01)
    result = CliRunner().invoke(
        app, ["canary", model, "--steps", "5,50", "--every", "2m", "--mirror", "20", "--json"]
    )
    assert result.exit_code == code, result.output
    request = stub_mesh.calls[-1]
    assert (list(request.steps), request.step_seconds, request.mirror_percent) == ([5, 50], 120, 20)
    assert '"state": "CANARY_STATE_' in result.stdout


def test_a_canary_is_followed_past_a_control_plane_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh_cli.verbs.canary_verb.POLL_S", 0)
    monkeypatch.setattr(training_progress.patiently, "sleep", lambda _: None)
    running = reload_pb2.Canary(model="reviews", state=reload_pb2.CANARY_STATE_RUNNING)
    promoted = reload_pb2.Canary(model="reviews", state=reload_pb2.CANARY_STATE_PROMOTED)
    client = create_autospec(MeshClient, instance=True)
    client.get_canary.side_effect = [Unavailable("away"), running, Unavailable("away"), promoted]
    assert follow(client, running) == promoted
    assert client.get_canary.call_count == 4


def test_steps_are_read() -> None:
    assert parse_steps("5, 25,50") == [5, 25, 50]
    with pytest.raises(BadInput, match="--steps"):
        parse_steps("5;25")


def test_both_sides_are_shown() -> None:
    canary = reload_pb2.Canary(
        model="reviews",
        version="2",
        champion_version="1",
        state=reload_pb2.CANARY_STATE_ROLLED_BACK,
        steps=[5, 25],
        reason="agreement [bad]",
        comparison=reload_pb2.CanaryComparison(
            champion=reload_pb2.CanarySlice(answered=2850, p50_ms=5.7),
            challenger=reload_pb2.CanarySlice(answered=150, p50_ms=11.3, labels={"good": 150}),
        ),
    )
    with console.capture() as captured:
        console.print(view(canary))
    shown = captured.get()
    for words in ("version 2 against version 1: rolled back", "2,850", "good 150", "[bad]"):
        assert words in shown
