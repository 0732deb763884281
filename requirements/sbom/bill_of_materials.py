"""`python requirements/sbom/bill_of_materials.py` prints the bill of materials, CycloneDX 1.6.

It lists every pin of the lock files with its hashes and the parts that install it. The licences are
those that the installed distributions declare; a package of another environment has none.
"""

import json
import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

HERE = Path(__file__).parents[1]
# Files that lock everything; the images' files hold parts of services.txt.
LOCKS = ("services", "airflow", "model", "torch", "protos")
MAX_LICENCE = 100  # characters; a longer text is the licence itself and not its name


def bill() -> dict[str, Any]:
    """The bill of materials as plain data."""
    components: dict[str, dict[str, Any]] = {}
    for lock in LOCKS:
        for name, version, hashes in entries((HERE / f"{lock}.txt").read_text()):
            purl = f"pkg:pypi/{canonicalize_name(name)}@{version}"
            component = components.setdefault(purl, component_of(purl, name, version, hashes))
            component["properties"].append({"name": "champion-mesh:lock", "value": lock})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "champion-mesh"}},
        "components": [components[purl] for purl in sorted(components)],
    }


def entries(text: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and SHA-256 hashes of every pin."""
    return [
        (pin[1], pin[2], re.findall(r"--hash=sha256:(\w{64})", line))
        for line in text.replace("\\\n", " ").splitlines()
        if (pin := re.match(r"([\w.-]+)==([^\s;]+)", line)) is not None
    ]


def component_of(purl: str, name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """One distribution, without the locks that it is in."""
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "purl": purl,
        "name": name,
        "version": version,
        # A component's own hashes are those of one file, and a release has several.
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"{purl}#{number}",
                "hashes": [{"alg": "SHA-256", "content": value}],
            }
            for number, value in enumerate(hashes)
        ],
        "properties": [],
    }
    if licence := licence_of(name):
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def licence_of(name: str) -> str:
    """The licence that the installed distribution declares, empty when it is not known."""
    try:
        declared = metadata(name)
    except PackageNotFoundError:
        return ""
    named = [*(declared.get_all("License-Expression") or ()), *(declared.get_all("License") or ())]
    stated = named[0] if named else ""
    if stated and len(stated) <= MAX_LICENCE and "\n" not in stated:
        return stated
    classified = [
        value.rpartition(" :: ")[2]
        for value in declared.get_all("Classifier") or ()
        if value.startswith("License ::")
    ]
    return " AND ".join(classified)


if __name__ == "__main__":
    print(json.dumps(bill(), indent=1))
