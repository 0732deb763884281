"""Which secrets a person sees who asks for the doors of a mesh."""

import pytest

from mesh_cli.verbs.status_document import print_doors

DATABASE = "postgresql://mesh:a-secret@127.0.0.1:5432/training?sslmode=disable"
DOORS = {
    "urls": {"mesh": "http://127.0.0.1:8000"},
    "airflow": {"user": "admin", "password": "b-secret"},
    "database": DATABASE,
}


def test_the_doors_hide_every_password(capsys: pytest.CaptureFixture[str]) -> None:
    print_doors(DOORS)
    out = capsys.readouterr().out
    assert "secret@" not in out
    assert "b-secret" not in out
    assert "postgresql://mesh:…@127.0.0.1:5432/training?sslmode=disable" in out


def test_the_doors_show_them_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    print_doors(DOORS, secrets=True)
    out = capsys.readouterr().out
    assert DATABASE in out
    assert "password b-secret" in out
