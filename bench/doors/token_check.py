"""What a token, and TLS, cost a prediction by JSON.

`python -m bench.doors.token_check`: three Envoys stand before the same two replicas with a real
model and get the same loads in turn: one that asks nobody for a token, one as a mesh on loopback
has it, which is called without a token and with one, and one with TLS besides. Connections stay
open. The figures are CPU time of Envoy and of the whole mesh, Envoy and the replicas, for a request
of one text; ratios are those within the rounds.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import track

from bench.kit.fleet import NOBODY, Fleet, running_fleet
from bench.kit.load_figures import measure_load
from bench.kit.model import BUILD, MODEL, model_folder
from bench.kit.results import Section, record
from bench.kit.server_process import ServerProcess, end_as_by_control_c
from control_plane.access.rules import AccessRules, TokenState
from control_plane.topology import Address, MeshTopology
from control_plane.xds import build_snapshot
from control_plane.xds.bootstrap import bootstrap
from mesh_cli.certificates.door import DoorCertificates, door_certificates
from mesh_cli.load import ClosedLoop, LoadSpec
from mesh_cli.load.plan.texts import read_texts
from mesh_cli.tokens.grant import Grant
from mesh_cli.tokens.signing_keys import SigningKeys
from tests.real_parts.envoy import envoy_binary
from tests.real_parts.postgres import free_port

CLIENTS = 8
WARM_UP_S = 1.0
LIFE_S = 86_400
# The limit of the mesh's requirements for a token, of the whole mesh's CPU.
WANTED = 1.05
UNCHECKED, WITHOUT, WITH, TLS = "no check of tokens", "no token", "a token", "a token, over TLS"
console = Console()


@dataclass(frozen=True)
class Door:
    """One way to call: an Envoy, its address, and what the caller brings."""

    envoy: ServerProcess
    address: str
    token: str = ""
    ca: str = ""


@dataclass(frozen=True)
class Cpu:
    """CPU of one load in milliseconds a request."""

    envoy: float
    replicas: float

    @property
    def whole(self) -> float:
        """That of the whole mesh."""
        return self.envoy + self.replicas


Rounds = Mapping[str, Sequence[Cpu]]


def _envoy(
    name: str,
    folder: Path,
    fleet: Fleet,
    tokens: TokenState,
    tls: DoorCertificates | None = None,
) -> tuple[ServerProcess, str]:
    """An Envoy as a mesh on loopback has it, and its address."""
    nobody, port = Address.parse(NOBODY), free_port()
    topology = MeshTopology(
        tuple(map(Address.parse, fleet.replica_addresses)),
        training=nobody,
        trigger=nobody,
        control_plane=nobody,
        replicas_unary=tuple(map(Address.parse, fleet.unary_addresses)),
        port=port,
        admin_port=free_port(),
        access=AccessRules(open_predict=True),
        certificates=tuple(tls.naming_files.split(",")) if tls else (),
    )
    path = folder / f"{name}.pb"
    path.write_bytes(bootstrap(build_snapshot(topology, tokens)))
    address = f"{'https://' if tls else ''}127.0.0.1:{port}"
    url = address if tls else f"http://{address}"
    command = [envoy_binary(), "--config-path", path, "--concurrency", "1", "--disable-hot-restart"]
    ready = _answers(url, str(tls.ca) if tls else "")
    server = ServerProcess(
        name, [*command, "--log-level", "warning"], ready, folder / f"{name}.log"
    )
    return server, address


def _answers(url: str, ca: str) -> Callable[[], bool]:
    http = httpx.Client(verify=httpx.create_ssl_context(verify=ca or True), trust_env=False)

    def ready() -> bool:
        try:
            return http.post(f"{url}/v1/models/{MODEL}:predict", json={"texts": ["a"]}).is_success
        except httpx.HTTPError:
            return False

    return ready


def _cpu(door: Door, fleet: Fleet, texts: Sequence[str], seconds: float) -> Cpu:
    spec = LoadSpec(
        *(door.address, MODEL, ClosedLoop(CLIENTS), tuple(texts), "json"),
        token=door.token,
        ca=door.ca,
        duration_s=seconds,
        warm_up_s=WARM_UP_S,
    )
    figures, _ = measure_load(spec, [door.envoy, *fleet.replicas], fleet.replicas)
    if figures.failed:
        raise SystemExit(f"{figures.failed} of {figures.requests} requests failed")
    envoy = figures.cpu_ms[door.envoy.name]
    return Cpu(envoy, sum(figures.cpu_ms.values()) - envoy)


def _measure(rounds: int, seconds: float, model: Path, folder: Path) -> Rounds:
    texts = read_texts(None)
    keys = SigningKeys(folder)
    token = keys.sign(Grant("bench", ("predict",)), LIFE_S).text
    tokens = TokenState(keys.public_file.read_text())
    tls = door_certificates(folder / "tls", ("127.0.0.1",))
    tls.make()
    measured: dict[str, list[Cpu]] = defaultdict(list)
    with ExitStack() as stack:
        fleet = stack.enter_context(running_fleet(folder / "fleet", model))
        plain, at = _envoy("envoy-tokens", folder, fleet, tokens)
        secure, secure_at = _envoy("envoy-tls", folder, fleet, tokens, tls)
        for envoy in (plain, secure):
            stack.enter_context(envoy)
        doors = {
            UNCHECKED: Door(fleet.envoy, fleet.address),
            WITHOUT: Door(plain, at),
            WITH: Door(plain, at, token),
            TLS: Door(secure, secure_at, token, str(tls.ca)),
        }
        for number in track(range(rounds), "every door in turn", console=console):
            # Each round begins with another door, so that none always comes first.
            order = list(doors)[number % len(doors) :] + list(doors)[: number % len(doors)]
            for name in order:
                measured[name].append(_cpu(doors[name], fleet, texts, seconds))
    return measured


def _row(measured: Rounds, name: str, beside: str, wanted: str = "") -> tuple[str, ...]:
    one, other = measured[name], measured[beside]
    ratios = [
        median(part(a) / part(b) for a, b in zip(one, other, strict=True))
        for part in (lambda cpu: cpu.envoy, lambda cpu: cpu.whole)
    ]
    return (
        f"{name}, beside {beside}",
        f"{median(cpu.envoy for cpu in one):.3f} ms",
        f"{median(cpu.whole for cpu in one):.3f} ms",
        *(f"{ratio:.3f}" for ratio in ratios),
        wanted,
    )


def main(
    rounds: Annotated[int, typer.Option(help="Loads of each door.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="Seconds of each load.", min=0.5)] = 6,
    save: Annotated[bool, typer.Option(help="Keep the figures in bench/results.json.")] = True,
) -> None:
    """Start the parts, measure, print, keep."""
    end_as_by_control_c()
    BUILD.mkdir(parents=True, exist_ok=True)
    model = model_folder()
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        measured = _measure(rounds, seconds, model, Path(folder))
    section = Section(
        "A token and TLS, predictions by JSON",
        f"python -m bench.doors.token_check --rounds {rounds} --seconds {seconds:g}",
        ("", "Envoy's CPU", "the mesh's CPU", "ratio, Envoy", "ratio, mesh", "wanted"),
        (
            _row(measured, WITHOUT, UNCHECKED),
            _row(measured, WITH, WITHOUT, f"<= {WANTED} of the mesh"),
            _row(measured, WITH, UNCHECKED),
            _row(measured, TLS, WITH),
        ),
        data={name: [vars(cpu) for cpu in loads] for name, loads in measured.items()},
    )
    section.show(console)
    if save:
        record("token_check", section)


if __name__ == "__main__":
    typer.run(main)
