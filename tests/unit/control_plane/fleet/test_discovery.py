"""Where the replicas are: a list, a file that may change, or names in DNS."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from control_plane.fleet.discovery import (
    DnsDiscovery,
    FileDiscovery,
    discover,
    resolve,
)
from control_plane.settings import ControlPlaneSettings
from control_plane.topology import Address

NAME = Address("inference", 8001)


class TwinNames:
    """A name server with one name. A test makes it fail, or keep its callers waiting."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.lookups = 0

    async def resolve(self, host: str) -> Sequence[str]:
        self.lookups += 1
        await self.open.wait()
        if self.failure:
            raise self.failure
        assert host == NAME.host
        return self.addresses


def named(names: TwinNames, refresh_s: float = 0, keep_s: float = 300) -> DnsDiscovery:
    return DnsDiscovery(NAME, names.resolve, refresh_s, keep_s)


async def until_addresses_are(discovery: DnsDiscovery, *expected: str) -> None:
    """Ask until the answer is there: lookups go on in the background."""
    async with asyncio.timeout(60):
        while await discovery.addresses() != expected:
            await asyncio.sleep(0)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "replicas"
    file.write_text("127.0.0.1:1\n\n127.0.0.1:2\n127.0.0.1:1\n")
    discovery = FileDiscovery(file)
    assert await discovery.addresses() == ("127.0.0.1:1", "127.0.0.1:2")
    file.write_text("127.0.0.1:3\n")
    assert await discovery.addresses() == ("127.0.0.1:3",)
    file.write_text("")
    assert await discovery.addresses() == ()


@pytest.mark.parametrize("content", [None, "127.0.0.1:1\nnonsense\n"])
async def test_a_file_that_cannot_be_read_changes_nothing_and_is_logged_once(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "replicas"
    file.write_text("127.0.0.1:1\n")
    discovery = FileDiscovery(file)
    await discovery.addresses()
    file.unlink()
    if content:
        file.write_text(content)
    for _ in range(3):
        assert await discovery.addresses() == ("127.0.0.1:1",)
    assert len(caplog.records) == 1


async def test_every_address_of_a_name_is_a_replica() -> None:
    discovery = named(TwinNames("10.0.0.1", "10.0.0.2", "fd00::1"))
    assert await discovery.addresses() == ("10.0.0.1:8001", "10.0.0.2:8001", "[fd00::1]:8001")


async def test_a_name_is_resolved_again() -> None:
    names = TwinNames("10.0.0.1")
    discovery = named(names)
    await discovery.addresses()
    names.addresses = ("10.0.0.1", "10.0.0.2")
    await until_addresses_are(discovery, "10.0.0.1:8001", "10.0.0.2:8001")
    names.addresses = ("10.0.0.2",)
    await until_addresses_are(discovery, "10.0.0.2:8001")


async def test_a_name_is_resolved_once_in_its_interval() -> None:
    names = TwinNames("10.0.0.1")
    discovery = named(names, refresh_s=60)
    for _ in range(5):
        await discovery.addresses()
    assert names.lookups == 1


async def test_a_slow_name_server_holds_nobody_up() -> None:
    names = TwinNames("10.0.0.1")
    discovery = named(names)
    await discovery.addresses()
    names.open.clear()
    async with asyncio.timeout(60):
        for _ in range(3):
            assert await discovery.addresses() == ("10.0.0.1:8001",)
            await asyncio.sleep(0)
    assert names.lookups == 2
    await discovery.close()


async def test_a_failed_lookup_keeps_what_was_known_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    names = TwinNames("10.0.0.1")
    discovery = named(names)
    await discovery.addresses()
    names.failure = OSError("no answer")
    async with asyncio.timeout(60):
        while names.lookups < 4:
            assert await discovery.addresses() == ("10.0.0.1:8001",)
            await asyncio.sleep(0)
    names.failure, names.addresses = None, ("10.0.0.2",)
    await until_addresses_are(discovery, "10.0.0.2:8001")
    assert [r.getMessage() for r in caplog.records] == [
        "replicas not found",
        "replicas found again",
    ]


async def test_what_was_known_is_given_up_in_the_end() -> None:
    names = TwinNames("10.0.0.1")
    discovery = named(names, keep_s=0)
    await discovery.addresses()
    names.failure = OSError("no such name")
    await until_addresses_are(discovery)


async def test_a_name_unknown_at_the_start_is_found_later() -> None:
    names = TwinNames("10.0.0.1")
    names.failure = UnicodeError("label too long")
    discovery = named(names)
    assert await discovery.addresses() == ()
    names.failure = None
    assert await discovery.addresses() == ("10.0.0.1:8001",)


async def test_a_host_of_both_families_is_one_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(*_: object, **__: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert await resolve("inference") == ["10.0.0.1", "10.0.0.2"]


async def test_localhost_is_resolved() -> None:
    assert await resolve("localhost") in (["127.0.0.1"], ["::1"])


async def test_addresses_names_and_a_file_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "replicas"
    file.write_text("127.0.0.1:2\n127.0.0.1:3\n")
    discovery = discover(("127.0.0.1:1", "127.0.0.1:2", "dns://localhost:4"), file)
    first, second, named, last = await discovery.addresses()
    assert (first, second, last) == ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    assert named in ("127.0.0.1:4", "[::1]:4")
    await discovery.close()


def test_settings_take_addresses_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_REPLICAS", "127.0.0.1:1, dns://inference:8001,")
    monkeypatch.setenv("CONTROL_REPLICAS_FILE", "/run/replicas")
    settings = ControlPlaneSettings()
    assert settings.replicas == ("127.0.0.1:1", "inference:8001")
    assert settings.replicas_file == Path("/run/replicas")
    monkeypatch.setenv("CONTROL_REPLICAS", "dns://inference")
    with pytest.raises(ValidationError, match="host:port is needed"):
        ControlPlaneSettings()
