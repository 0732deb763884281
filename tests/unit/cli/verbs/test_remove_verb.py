"""`mesh remove`: it asks first, and says what it did; and gaps are shown where models are."""

import io
import json
import sys

import pytest
from typer.testing import CliRunner

from mesh.v1 import reload_pb2
from mesh_cli.errors import BadInput
from mesh_cli.main import app
from mesh_cli.terminal import output
from mesh_cli.verbs import remove_verb
from tests.twins.stub_mesh import StubMesh


class Terminal(io.StringIO):
    """A standard input at which a person sits."""

    def isatty(self) -> bool:
        return True


def test_it_says_what_was_removed(stub_mesh: StubMesh) -> None:
    result = CliRunner().invoke(app, ["remove", "reviews", "--yes"])
    assert result.exit_code == 0, result.output
    assert "versions 1, 2; its training table was not touched" in result.stdout
    assert "these replicas do not answer, and drop it when they do: r2" in result.stdout
    request = stub_mesh.calls[-1]
    assert (request.model, request.with_rows) == ("reviews", False)
    assert request.request_id


def test_it_answers_in_json(stub_mesh: StubMesh) -> None:
    result = CliRunner().invoke(app, ["remove", "reviews", "--with-rows", "--yes", "--json"])
    assert json.loads(result.stdout)["rowsRemoved"] is True


def test_without_a_terminal_it_wants_yes(stub_mesh: StubMesh) -> None:
    result = CliRunner().invoke(app, ["remove", "reviews"], input="y\n")
    assert isinstance(result.exception, BadInput)
    assert "--yes" in str(result.exception)
    assert stub_mesh.calls == []


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_it_asks(
    stub_mesh: StubMesh, monkeypatch: pytest.MonkeyPatch, answer: str, removed: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer == "y" or _abort())
    try:
        remove_verb.remove("reviews", with_rows=True)
    except KeyboardInterrupt:
        assert not removed
    assert bool(stub_mesh.calls) == removed


def _abort() -> bool:
    raise KeyboardInterrupt


def test_a_gap_is_shown_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    gap = reload_pb2.FleetModel(name="reviews", detail="version 2 was promoted [and] waits")
    output.print_details((m.name, m.detail) for m in (gap, reload_pb2.FleetModel(name="fine")))
    assert capsys.readouterr().out.strip() == "reviews: version 2 was promoted [and] waits"
