"""The forms in which a client takes the address of a mesh."""

import pytest

from mesh._shared import calls


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:8000", ("127.0.0.1:8000", False)),
        ("http://127.0.0.1:8000/", ("127.0.0.1:8000", False)),
        ("https://mesh.example:443", ("mesh.example:443", True)),
        ("https://[::1]:8443/", ("[::1]:8443", True)),
    ],
)
def test_an_address_says_whether_it_has_tls(address: str, target: tuple[str, bool]) -> None:
    assert calls.target(address) == target


@pytest.mark.parametrize("wrong", ["ftp://mesh:1", "https://mesh:1/v1/models", "://mesh:1"])
def test_what_is_no_address_of_a_mesh_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no address of a mesh"):
        calls.target(wrong)
