"""Generate the Python code and the descriptor set beside the .proto files, and the sync client.

`make protos` runs this in an environment of its own. Generated code refuses a protobuf runtime that
is older than its generator, so that environment has the oldest version that clients may use.
"""

import argparse
import sys
from pathlib import Path

import google.api.annotations_pb2
import grpc_tools
import unasync
from grpc_tools import protoc

ROOT = Path(__file__).parent
PUBLIC = (
    *(
        f"mesh/v1/{name}.proto"
        for name in ("predict", "train", "canary", "reload", "batch", "data")
    ),
    "inference/open_inference.proto",
)
INTERNAL = ("mesh/v1/replica.proto", "mesh/v1/model_rows.proto")

# The descriptor set holds these types too: without them Envoy's transcoder cannot turn the details
# of errors into JSON.
EXTRA_TYPES = ("google/rpc/error_details.proto",)


def run(*args: str) -> None:
    """Run protoc; when it fails, exit with its code."""
    includes = (
        ROOT,
        Path(google.api.annotations_pb2.__file__).parents[2],
        Path(grpc_tools.__file__).parent / "_proto",
    )
    code = protoc.main(["protoc", *(f"-I{path}" for path in includes), *args])
    if code:
        sys.exit(code)


def write_sync_client(out: Path) -> None:
    """Write `mesh/_sync/client.py` under `out`, from the async client."""
    source, target = ROOT / "mesh" / "_async", out / "mesh" / "_sync"
    rule = unasync.Rule(
        fromdir=f"{source}/",
        todir=f"{target}/",
        additional_replacements={"AsyncMeshClient": "MeshClient", "_async": "_sync"},
    )
    unasync.unasync_files([str(source / "client.py")], [rule])


def main() -> None:
    """Generate the code for all .proto files, and descriptor.pb for the public ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="folder to write to")
    parser.add_argument("--lint-set", type=Path, help="also write a descriptor set for buf")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    everything = (*PUBLIC, *INTERNAL)
    out = str(args.out)
    run(
        f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out={out}",
        *everything,
    )
    write_sync_client(args.out)
    descriptor = args.out / "mesh" / "descriptor.pb"
    run("--include_imports", f"--descriptor_set_out={descriptor}", *PUBLIC, *EXTRA_TYPES)
    if args.lint_set:
        run(
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={args.lint_set}",
            *everything,
        )


if __name__ == "__main__":
    main()
