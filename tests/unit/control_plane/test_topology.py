"""The description of the mesh, and addresses."""

from dataclasses import replace

import pytest

from control_plane.topology import Address
from tests.unit.control_plane.topologies import TOPOLOGY


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:80", "::1", 80), ("a.b:80", "a.b", 80)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "80", ":80", "a:", "a:0", "a:65536", "a:x"])
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Address.parse(text)


def test_envoy_listens_on_an_ip_address_only() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        replace(TOPOLOGY, host="localhost")
