"""Every engine in every number format, without a server: `python -m bench.engines`"""

import typer

from bench.limit import (
    ALL,
    MOST_TEXTS,
    Model,
    Rounds,
    Save,
    Seconds,
    Texts,
    measure,
    report,
)
from bench.model import model_folder
from inference_svc.engines.cpu import has_bf16
from mesh_cli.load.texts import read_texts


def main(
    texts: Texts = None,
    model: Model = "",
    rounds: Rounds = 3,
    seconds: Seconds = 5.0,
    save: Save = True,
) -> None:
    """Measure in alternating rounds and print the table for this machine."""
    specs = [spec for spec in ALL if spec.precision != "bf16" or has_bf16()]
    lines = read_texts(texts)[:MOST_TEXTS]
    figures = measure(model_folder(model), specs, lines, rounds, seconds)
    report("engines", "Engines without a server", figures, save)


if __name__ == "__main__":
    typer.run(main)
