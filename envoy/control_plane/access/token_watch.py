"""Keeps Envoy in step with the keys and the revoked tokens."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psycopg2

from control_plane.access.rules import TokenState
from control_plane.access.token_keys import UnusableKeys, nobodys_keys, read_keys
from service_kit.errors import Unavailable

log = logging.getLogger(__name__)

# Seconds between two looks. New keys and revoked ids are promised to hold within 5 s.
LOOK_S = 1.0


class Revoked(Protocol):
    """Tells which tokens are revoked."""

    def remembered(self) -> frozenset[str]:
        """Return what was known before the start."""

    async def read(self) -> frozenset[str]:
        """Return what is known now. Raises Unavailable."""


class TokenWatch:
    """Looks at the file of keys and at the revoked tokens, and publishes each change."""

    def __init__(self, file: Path, revoked: Revoked, publish: Callable[[TokenState], None]) -> None:
        self._file = file
        self._revoked = revoked
        self._publish = publish
        self._trouble: dict[str, str] = {}
        # Until the file has been read no token passes; calls that need none do.
        self._state = TokenState(nobodys_keys())

    def begin(self) -> None:
        """Publish what is known without the database."""
        self._state = TokenState(self._keys(), self._revoked.remembered())
        self._publish(self._state)

    async def run(self) -> None:
        """Look for changes until cancelled. The two looks do not wait for each other."""
        await asyncio.gather(self._watch_keys(), self._watch_revoked())

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._change(TokenState(self._keys(), self._state.revoked))

    async def _watch_revoked(self) -> None:
        while True:
            try:
                revoked = await self._revoked.read()
                self._change(TokenState(self._state.keys, revoked))
                self._settled("revoked tokens")
            except (Unavailable, psycopg2.Error) as error:
                self._tell_once("revoked tokens", str(error))
            await asyncio.sleep(LOOK_S)

    def _change(self, state: TokenState) -> None:
        if state == self._state:
            return
        self._state = state
        self._publish(state)
        log.info("keys or revoked tokens changed", extra={"revoked": len(state.revoked)})

    def _keys(self) -> str:
        """Return the keys of the file, or the latest ones while it cannot be used."""
        try:
            keys = read_keys(self._file)
        except UnusableKeys as error:
            self._tell_once("keys", f"{self._file}: {error}")
            return self._state.keys
        self._settled("keys")
        return keys

    def _tell_once(self, what: str, why: str) -> None:
        if self._trouble.get(what) != why:
            self._trouble[what] = why
            log.error("%s cannot be read; what was known before holds", what, extra={"why": why})

    def _settled(self, what: str) -> None:
        if self._trouble.pop(what, ""):
            log.info("%s can be read again", what)
