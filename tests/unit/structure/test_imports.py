"""Imports go one way, between files and between folders, and no service imports another."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest

from tests.unit.structure.source_files import Import, Module, imports, modules

# Modules at the root of a package on which all of its folders stand: importing one of them is not
# importing the root.
GROUND = {"settings", "topology", "errors"}
CONTRACT = {"mesh", "inference"}
SERVICES = ("inference_svc", "training_svc", "trigger_svc", "control_plane")
# Packages of the project that a package may import beside itself.
MAY_IMPORT: dict[str, set[str]] = {
    "mesh": set(),
    "inference": set(),
    "service_kit": CONTRACT,
    **dict.fromkeys(SERVICES, CONTRACT | {"service_kit"}),
    "mesh_cli": CONTRACT | {"service_kit"},
    "dags": {"mesh"},
}


def test_no_circle_between_files() -> None:
    assert_no_circle(imports(), lambda module: str(module.path))


def test_no_circle_between_folders() -> None:
    between = (
        found
        for found in imports()
        if found.importer.folder != found.imported.folder and not is_ground(found.imported)
    )
    assert_no_circle(between, lambda module: module.folder)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    assert any(module.package == package for module in modules().values())
    allowed = MAY_IMPORT[package] | {package}
    wrong = [
        str(found)
        for found in imports()
        if found.importer.package == package and found.imported.package not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def is_ground(module: Module) -> bool:
    """`settings`, `topology` or `errors` at the root of its package."""
    package, _, rest = module.name.partition(".")
    return package == module.package and rest in GROUND


def assert_no_circle(edges: Iterable[Import], node: Callable[[Module], str]) -> None:
    """Fail with the nodes of one circle, and the lines in which each imports the one before."""
    lines: dict[tuple[str, str], set[str]] = defaultdict(set)
    graph = TopologicalSorter[str]()
    for edge in edges:
        importer, imported = node(edge.importer), node(edge.imported)
        lines[importer, imported].add(str(edge))
        graph.add(importer, imported)
    circle: list[str] = []
    try:
        graph.prepare()
    except CycleError as error:
        circle = error.args[1]
    report = [f"a circle: {' ← '.join(circle)}"]
    for imported, importer in pairwise(circle):
        report += sorted(lines[importer, imported])
    assert not circle, "\n".join(report)
