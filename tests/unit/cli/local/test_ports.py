"""The ports that a local mesh takes, and the error when one is in use."""

import os
import socket

import pytest

from mesh_cli.errors import CliError
from mesh_cli.local.ports import internal_ports, require_free


def test_a_port_in_use_is_named_with_its_variable_and_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CliError) as caught:
            require_free("127.0.0.1", {"Envoy": ("MESH_PORT", port)})
    assert f"port {port} for Envoy is in use by process {os.getpid()} (" in str(caught.value)
    assert "MESH_PORT" in str(caught.value)


def test_one_port_for_two_parts_is_refused() -> None:
    port = internal_ports(["any"], {})["any"]
    published = {"Envoy": ("MESH_PORT", port), "MLflow": ("MESH_MLFLOW_PORT", port)}
    with pytest.raises(CliError, match=f"MLflow and Envoy .* {port}: set MESH_MLFLOW_PORT"):
        require_free("127.0.0.1", published)


def test_internal_ports_are_distinct_and_kept() -> None:
    first = internal_ports(["a", "b", "c"], {})
    assert len(set(first.values())) == 3
    assert internal_ports(["a", "b", "c"], first) == first


def test_a_kept_port_that_is_taken_is_replaced() -> None:
    kept = internal_ports(["a"], {})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", kept["a"]))
        taken.listen()
        assert internal_ports(["a"], kept) != kept
