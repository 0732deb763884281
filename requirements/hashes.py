"""`python requirements/hashes.py` writes the SHA-256 of every file of every pinned release into the
files of pins; `images.py` then copies them into the images' files.

All files of a release are taken, so that one list holds for every platform and Python version. The
index is pip's own (`pip config get global.index-url`, else PyPI). torch.txt also keeps the hashes
that it has: those of CPU builds, which lie on an index of their own.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from pip._internal.models.index import PyPI  # where pip looks unless it is told otherwise

HERE = Path(__file__).parent
PINNED = ("services.txt", "airflow.txt", "protos.txt", "model.txt", "torch.txt")
KEPT = "torch.txt"  # its own hashes stay
ACCEPT = "application/vnd.pypi.simple.v1+json"
TIMEOUT_S = 60
CONNECTIONS = 4
_PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)([^\\]*)", re.ASCII)


def index_url() -> str:
    """URL of pip's index."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return (os.environ.get("PIP_INDEX_URL") or configured or PyPI.simple_url).rstrip("/")


def release_hashes(index: str, name: str, version: str) -> list[str]:
    """SHA-256 of every file of the release. Raises SystemExit when the index has none."""
    url = f"{index}/{canonicalize_name(name)}/"
    answer = httpx.get(
        url, headers={"accept": ACCEPT}, timeout=TIMEOUT_S, follow_redirects=True
    ).raise_for_status()
    files = answer.json()["files"]
    wanted = Version(version)
    found = {file["hashes"]["sha256"] for file in files if _version(file["filename"]) == wanted}
    if not found:
        raise SystemExit(f"the index has no file of {name} {version}")
    return sorted(found)


def _version(filename: str) -> Version | None:
    """Version of a wheel or source archive, None for other files."""
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def pins(text: str) -> list[str]:
    """The comments and pins of a file, each pin with its hashes on one line."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def written(line: str, hashes: list[str]) -> str:
    """The pin of `line` with these hashes, one a line."""
    match = _PIN.match(line)
    assert match is not None, line
    pin = "".join(match.groups()[:1]) + f"=={match[2]}" + match[3].split("--hash")[0].rstrip()
    return " \\\n    ".join([pin, *(f"--hash=sha256:{value}" for value in hashes)])


def rewrite(path: Path, index: str) -> None:
    """Write the hashes into one file."""
    lines = pins(path.read_text())

    def hashed(line: str) -> str:
        match = _PIN.match(line)
        if match is None:
            return line
        found = set(release_hashes(index, match[1], match[2]))
        if path.name == KEPT:
            found |= set(re.findall(r"--hash=sha256:(\w+)", line))
        return written(line, sorted(found))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        path.write_text("\n".join([*pool.map(hashed, lines), ""]))


if __name__ == "__main__":
    for name in PINNED:
        rewrite(HERE / name, index_url())
