"""The generated code is fresh, and the .proto files follow the rules of buf."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROTOS = ROOT / "protos"
GENERATED = (
    *("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi"),
    *("descriptor.pb", "_sync/client.py"),
)


@pytest.fixture(scope="module")
def generator() -> Path:
    """Path of the interpreter of the generator's own environment."""
    subprocess.run(
        ["make", "--no-print-directory", ".venv-protos/.installed", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return ROOT / ".venv-protos" / "bin" / "python"


@pytest.fixture(scope="module")
def fresh(generator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with code generated just now, and `mesh.binpb` for buf."""
    out = tmp_path_factory.mktemp("protos")
    subprocess.run(
        [generator, PROTOS / "generate.py", "--out", out, "--lint-set", out / "mesh.binpb"],
        check=True,
        capture_output=True,
    )
    return out


def test_generated_code_is_fresh(fresh: Path) -> None:
    made = {p.relative_to(fresh): p for pattern in GENERATED for p in fresh.rglob(pattern)}
    kept = {
        p.relative_to(PROTOS): p
        for folder in ("mesh", "inference")
        for pattern in GENERATED
        for p in (PROTOS / folder).rglob(pattern)
    }
    assert made.keys() == kept.keys()
    stale = [
        str(name) for name, path in made.items() if path.read_bytes() != kept[name].read_bytes()
    ]
    assert not stale, "run `make protos`"


def test_contract_follows_the_lint_rules(fresh: Path) -> None:
    assert buf("lint", fresh / "mesh.binpb") == ""


def test_contract_breaks_no_client_of_the_released_one() -> None:
    assert broken(PROTOS / "mesh" / "descriptor.pb") == ""


@pytest.mark.parametrize(
    ("old", "new"), [(b"all_scores", b"any_scores"), (b"challenger_weight", b"challenged_weight")]
)
def test_a_breaking_change_of_the_contract_is_found(old: bytes, new: bytes, tmp_path: Path) -> None:
    changed = tmp_path / "changed.binpb"
    changed.write_bytes((PROTOS / "mesh" / "descriptor.pb").read_bytes().replace(old, new))
    assert old.decode() in broken(changed)


def broken(descriptor: Path) -> str:
    """What buf says of a contract that is compared with the released one; empty: nothing."""
    return buf("breaking", f"{descriptor}#format=binpb", "--against", PROTOS / "released.binpb")


def buf(*arguments: str | Path) -> str:
    command = [Path(sys.executable).parent / "buf", *arguments, "--config", PROTOS / "buf.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.stdout
