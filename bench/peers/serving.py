"""Starts a peer and checks that it serves the same model."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx

from bench.kit.server_process import ServerProcess
from bench.peers.catalog import PEERS
from bench.peers.environment import BUILD, environment
from bench.peers.peer import FOLDER, Peer, Turn
from mesh_cli.errors import BadInput
from mesh_cli.load import ClosedLoop, LoadSpec
from mesh_cli.local.ports import internal_ports

# Labels may differ where the mesh is less sure than this: number formats round differently.
CLEAR_SCORE = 0.55
ASK_TIMEOUT_S = 30.0


def chosen(names: str) -> list[Peer]:
    """Peers by their names, `all` or `none`. Raises BadInput."""
    if names in ("", "none"):
        return []
    known = {peer.name: peer for peer in PEERS}
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise BadInput(f"there is no peer {name!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


class ServedPeer:
    """A peer that is started with a model: use `process` in a `with`."""

    def __init__(self, peer: Peer, model: Path, precision: str) -> None:
        self._peer = peer
        # One client for all requests, without certificates: loading those takes 50 ms of CPU.
        self._http = httpx.Client(timeout=ASK_TIMEOUT_S, trust_env=False, verify=False)
        port = internal_ports([peer.name], {})[peer.name]
        self.address = f"127.0.0.1:{port}"
        state = BUILD / peer.name / "state"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        venv = environment(peer.name)
        turn = Turn(
            venv=venv,
            source=FOLDER / peer.name,
            state=state,
            port=port,
            environment=peer.environment(venv, model, precision, port),
        )
        self.process = ServerProcess(
            peer.name,
            peer.command(turn),
            self._is_ready,
            BUILD / peer.name / "log",
            turn.environment,
            state,
        )

    def spec(
        self, texts: Sequence[str], clients: int, seconds: float, warm_up_s: float
    ) -> LoadSpec:
        """The load of one text a request."""
        return LoadSpec(
            address=self.address,
            model=self._peer.name,
            loop=ClosedLoop(clients),
            protocol="json",
            path=self._peer.path,
            bodies=tuple(self._peer.encode(text) for text in texts),
            duration_s=seconds,
            warm_up_s=warm_up_s,
        )

    def ask(self, text: str) -> str:
        """The label that the peer gives to a text. Raises httpx.HTTPError."""
        answer = self._http.post(
            f"http://{self.address}{self._peer.path}",
            content=self._peer.encode(text),
            headers={"content-type": "application/json"},
        )
        return self._peer.label(answer.raise_for_status().json())

    def check(self, ours: Sequence[tuple[str, str, float]]) -> None:
        """Raise RuntimeError if the peer's label differs from the mesh's where that is clear.

        `ours` holds texts with the label and score that the mesh gives them.
        """
        for text, label, score in ours:
            theirs = self.ask(text)
            if theirs != label and score >= CLEAR_SCORE:
                raise RuntimeError(
                    f"{self._peer.title} serves another model: {text[:60]!r} is {theirs}, "
                    f"not {label} ({score:.2f})"
                )

    def _is_ready(self) -> bool:
        try:
            self.ask("ready?")
        except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError):
            return False
        return True
