"""The client, installed by pip alone, works with each major version of protobuf that it allows."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.twins.toy_services import REPLICA, ToyPredict, toy_server

PROTOS = Path(__file__).parents[3] / "protos"

USE = """
import sys, warnings
warnings.simplefilter("error")
import google.protobuf, mesh.errors
from mesh.client import MeshClient
with MeshClient(sys.argv[1]) as client:
    answer = client.predict("reviews", ["four", "seventy"])
    assert [p.label for p in answer.predictions] == ["4", "7"], answer
    try:
        client.predict("reviews", [])
    except mesh.errors.InvalidArgument as error:
        assert "texts" in error.fields, error.fields
    else:
        raise SystemExit("an empty request was answered")
forbidden = {"torch", "mlflow", "transformers"} & set(sys.modules)
assert not forbidden, forbidden
print(google.protobuf.__version__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the client, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    # A build leaves files beside the sources, so it builds a copy of them.
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    source = shutil.copytree(PROTOS, folder / "protos", ignore=ignored)
    pip(Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the interpreter of an empty environment."""
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def pip(python: Path, verb: str, *arguments: str | Path) -> None:
    """Run pip in the environment of `python`."""
    command = [python, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("protobuf", ["5.29.6", "6.33.6", "7.36.2"])
async def test_client_works_with_protobuf(python: Path, wheel: Path, protobuf: str) -> None:
    await asyncio.to_thread(pip, python, "install", wheel, f"protobuf=={protobuf}")
    async with toy_server(REPLICA, predict=ToyPredict("replica-1")) as server:
        process = await asyncio.create_subprocess_exec(
            python, "-c", USE, server.address, stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.decode().strip() == protobuf
