"""Every engine in every number format, without a server: `python -m bench.engines`"""

from typing import Annotated

import typer

from bench.kit.model import model_folder
from bench.limit import (
    ALL,
    Model,
    Rounds,
    Save,
    Seconds,
    Texts,
    measure,
    report,
)
from inference_svc.engines.cpu_features import has_bf16
from mesh_cli.load.plan.texts import read_texts

# Enough to compare engines. With more the slowest engine takes over half a minute for a pass.
ENOUGH_TEXTS = 512


def main(
    texts: Texts = None,
    model: Model = "",
    rounds: Rounds = 3,
    seconds: Seconds = 5.0,
    save: Save = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Measure in alternating rounds and print the table for this machine."""
    specs = [spec for spec in ALL if spec.precision != "bf16" or has_bf16()]
    lines = read_texts(texts)[:ENOUGH_TEXTS]
    figures = measure(model_folder(model), specs, lines, rounds, seconds)
    report("engines", "Engines without a server", figures, save, json)


if __name__ == "__main__":
    typer.run(main)
