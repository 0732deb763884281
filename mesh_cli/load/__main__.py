"""`python -m mesh_cli.load SPEC.json`: runs one load and prints its summary as JSON."""

import argparse
import asyncio
import gc
import json
import sys
from pathlib import Path

from mesh_cli.errors import CliError
from mesh_cli.load.event_loop import new_precise_event_loop
from mesh_cli.load.generator import generate
from mesh_cli.load.plan.spec import spec_from_json
from mesh_cli.load.results.result_file import result_to_json


def main() -> int:
    """Print `{"begin": …}` when the load begins, then the summary; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mesh_cli.load", description=__doc__)
    parser.add_argument("spec", type=Path, help="the load, as LoadSpec.to_json writes it")
    parser.add_argument(
        "--rows", type=Path, help="file to which every request is written, for LoadProcess"
    )
    arguments = parser.parse_args()
    try:
        spec = spec_from_json(arguments.spec.read_text())
        # The modules and the spec stay until the end, so the garbage collector need not look at
        # them in the middle of a run.
        gc.freeze()
        with asyncio.Runner(loop_factory=new_precise_event_loop) as runner:
            result = runner.run(generate(spec, _print_begin))
    except CliError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if arguments.rows:
        arguments.rows.write_text(result_to_json(result))
    print(json.dumps(result.summary()))
    return 0


def _print_begin(moment: float) -> None:
    print(json.dumps({"begin": moment}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
