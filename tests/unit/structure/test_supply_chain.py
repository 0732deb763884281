"""What is installed is pinned by its hash, and nothing that is loaded can run code of its own."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from requirements.sbom import bill_of_materials
from tests.unit.structure.source_files import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
CODE = ("training_svc", "inference_svc", "trigger_svc", "service_kit", "mesh_cli", "envoy", "dags")
UNPICKLERS = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"),
    *("skops", "jsonpickle", "pandas.read_pickle"),
}
INSTALLERS = [ROOT / "Makefile", *sorted(ROOT.glob("[!.]*/**/Dockerfile"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_is_exact_and_has_hashes(lock: Path) -> None:
    lines = [line for line in lock.read_text().replace("\\\n", " ").splitlines() if line.strip()]
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    pattern = re.compile(r"[\w.-]+==[\w.+!]+( +--hash=sha256:[0-9a-f]{64})+")
    assert [pin for pin in pins if not pattern.fullmatch(pin)] == []


@pytest.mark.parametrize("path", INSTALLERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_whatever_is_installed_from_an_index_is_held_against_hashes(path: Path) -> None:
    commands = re.split(r"\n|&&", path.read_text().replace("\\\n", " "))
    installs = [command for command in commands if re.search(r"\bpip\b.* install ", command)]
    # Without hashes: our own packages, which are folders here or wheels that were just built.
    unhashed = [command for command in installs if "--require-hashes" not in command]
    assert installs
    for command in unhashed:
        assert "--no-deps" in command, command
        assert "--no-index" in command or "--no-build-isolation" in command, command


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for folder in (*CODE, "protos/mesh"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "build" not in path.parts:
                yield path.relative_to(ROOT), ast.parse(path.read_text())


def keywords(call: ast.Call) -> dict[str | None, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def is_true(given: dict[str | None, ast.expr], name: str) -> bool:
    value = given.get(name)
    return isinstance(value, ast.Constant) and value.value is True


def test_nothing_that_unpickles_is_imported() -> None:
    found = [
        f"{path}: {alias.name}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if {(getattr(node, "module", None) or alias.name).partition(".")[0]} & UNPICKLERS
    ]
    assert found == []


def test_no_call_loads_what_may_be_pickled() -> None:
    found = []
    for path, tree in modules():
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            given = keywords(call)
            unsafe = (
                (
                    name == "torch.load"
                    and "torch" in imported
                    and not is_true(given, "weights_only")
                )
                or name in {"mlflow.pyfunc.load_model", "pandas.read_pickle", "torch.jit.load"}
                or "allow_pickle" in given
            )
            if unsafe:
                found.append(f"{path}:{call.lineno}: {name}")
    assert found == []


def test_code_beside_a_model_is_refused_wherever_one_is_loaded() -> None:
    loads = 0
    for path, tree in modules():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if not ast.unparse(call.func).endswith(".from_pretrained"):
                continue
            loads += 1
            given = {**keywords(call)}
            refused = given.get("trust_remote_code")
            starred = ast.unparse(given[None]) if None in given else ""
            safe = isinstance(refused, ast.Constant) and refused.value is False
            assert safe or starred in ("LOCAL", "WEIGHTS", "options"), f"{path}:{call.lineno}"
    assert loads > 5


def test_remote_code_is_switched_on_nowhere() -> None:
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                values = [v for k, v in pairs if k and ast.unparse(k) == "'trust_remote_code'"]
            elif isinstance(node, ast.Call):
                values = [v for k, v in keywords(node).items() if k == "trust_remote_code"]
            else:
                continue
            assert all(ast.unparse(value) == "False" for value in values), path


def test_the_bill_of_materials_lists_every_pin_with_hashes_and_licences() -> None:
    components = bill_of_materials.bill()["components"]
    pinned = {
        (name, version)
        for lock in bill_of_materials.LOCKS
        for name, version, _ in bill_of_materials.entries(
            (ROOT / "requirements" / f"{lock}.txt").read_text()
        )
    }
    assert {(each["name"], each["version"]) for each in components} >= pinned
    assert all(each["externalReferences"] for each in components)
    assert len({each["bom-ref"] for each in components}) == len(components)
    services_lock = [
        each
        for each in components
        if {"name": "champion-mesh:lock", "value": "services"} in each["properties"]
    ]
    unlicensed = [each["name"] for each in services_lock if "licenses" not in each]
    assert len(unlicensed) <= len(services_lock) // 10, unlicensed


def test_pyproject_names_the_libraries_that_check_tokens_once_each() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [canonicalize_name(re.split(r"[^\w.-]", each)[0]) for each in project["dependencies"]]
    assert {"pyjwt", "cryptography"} <= set(names)
    assert len(names) == len(set(names))
    pinned = {
        canonicalize_name(name)
        for name, _, _ in bill_of_materials.entries(
            (ROOT / "requirements" / "services.txt").read_text()
        )
    }
    own = {"champion-mesh-client", "torch"}  # torch has a file of its own
    assert set(names) - pinned - own == set()
