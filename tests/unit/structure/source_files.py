"""The project's files, and the imports between its Python modules."""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Folders from which Python finds the project's modules; the first one that holds a file counts.
SEARCH_PATH = ("protos", "envoy", "dags", "")
CODE = (".py", ".sql", ".proto")
_NOT_OURS = {"build", "dist", "node_modules", "secrets", "__pycache__"}


@dataclass(frozen=True)
class Module:
    """A Python module of the project; `path` is relative to the project's root."""

    path: Path
    name: str

    @property
    def folder(self) -> str:
        """The folder that holds the file."""
        return str(self.path.parent)

    @property
    def package(self) -> str:
        """The first part of the name, for example `service_kit`; `dags` for a DAG."""
        return "dags" if self.path.parts[0] == "dags" else self.name.partition(".")[0]


@dataclass(frozen=True)
class Import:
    """One import of a module of the project by another one."""

    importer: Module
    imported: Module
    line: int

    def __str__(self) -> str:
        return f"{self.importer.path}:{self.line} imports {self.imported.name}"


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project but hidden ones, relative to its root."""
    found = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [
            name
            for name in below
            if name not in _NOT_OURS and not name.startswith(".") and ".egg-info" not in name
        ]
        here = Path(folder).relative_to(ROOT)
        found += [here / name for name in names if not name.startswith(".")]
    return tuple(sorted(found))


def is_generated(path: Path) -> bool:
    """protoc wrote the file."""
    return "_pb2" in path.name


def code_files() -> Iterator[Path]:
    """The files of code that people write."""
    return (path for path in files() if path.suffix in CODE and not is_generated(path))


@cache
def modules() -> dict[str, Module]:
    """The project's modules by name, generated ones excepted."""
    made = (Module(path, _module_name(path)) for path in code_files() if path.suffix == ".py")
    return {module.name: module for module in made}


@cache
def imports() -> tuple[Import, ...]:
    """Every import between two modules of the project, those inside functions included."""
    return tuple(
        Import(module, modules()[name], line)
        for module in modules().values()
        for name, line in _imported_names(module)
        if name in modules() and name != module.name
    )


def _module_name(path: Path) -> str:
    root = next(root for root in SEARCH_PATH if path.is_relative_to(root))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_names(module: Module) -> Iterator[tuple[str, int]]:
    """Names of the imported modules with the line; names of other projects are among them."""
    for node in ast.walk(ast.parse((ROOT / module.path).read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = _origin(module, node)
            for alias in node.names:
                # What is imported is a module of the package, or something in its __init__.py.
                submodule = f"{package}.{alias.name}"
                yield submodule if submodule in modules() else package, node.lineno


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The full name after `from`."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    steps_up = node.level - (module.path.name == "__init__.py")
    return ".".join(parts[: len(parts) - steps_up] + ([node.module] if node.module else []))
