"""The mesh's answers beside those of torch in fp32: `python -m bench.accuracy --texts FILE`

FILE is a .csv with columns `text` and `label`. Every text goes through Envoy to two replicas, and
through transformers in a child process, in fp32, one text at a time.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.kit.fleet import running_fleet
from bench.kit.model import BUILD, model_folder
from bench.kit.results import Section, record
from bench.kit.server_process import end_as_by_control_c
from bench.limit import Model, Save
from bench.serve import ask
from inference_svc.model.model_files import TOKENIZER_FILE, WEIGHTS_FOLDER, read_spec
from mesh_cli.errors import BadInput
from mesh_cli.rows.csv_files import Columns, read_rows

TEXTS_PER_REQUEST = 64
WANTED_POINTS = 0.3

console = Console()


@dataclass(frozen=True)
class Answer:
    """A label and its probability."""

    label: str
    score: float


def served(folder: Path, texts: list[str]) -> list[Answer]:
    """The answers of two replicas, through Envoy."""
    given: list[Answer] = []
    with running_fleet(BUILD / "accuracy", folder) as fleet:
        for begin in range(0, len(texts), TEXTS_PER_REQUEST):
            answers = ask(fleet.address, texts[begin : begin + TEXTS_PER_REQUEST])
            given += [Answer(label, score) for _, label, score in answers]
    return given


def by_torch(folder: Path, texts: list[str]) -> list[Answer]:
    """The answers of transformers, in a child process: torch stays out of this one."""
    # PASSIVE: threads that spin at barriers make it ten times slower beside other processes.
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.accuracy", "--by-torch", str(folder)],
        input=json.dumps(texts),
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
    )
    return [Answer(label, score) for label, score in json.loads(done.stdout)]


def _answer_by_torch(folder: Path) -> None:
    import torch
    import transformers

    spec = read_spec(folder)
    tokenizer: Any = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / TOKENIZER_FILE)
    )
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder / WEIGHTS_FOLDER, dtype=torch.float32
    )
    model.train(mode=False)
    answers = []
    with torch.inference_mode():
        for text in json.load(sys.stdin):
            limit = {"truncation": True, "max_length": spec.max_tokens}
            ids = tokenizer(text, return_tensors="pt", **limit)
            score, column = model(**ids).logits[0].softmax(-1).max(-1)
            answers.append((spec.labels[int(column)], float(score)))
    json.dump(answers, sys.stdout)


def section(ours: list[Answer], torch: list[Answer], labels: list[str]) -> Section:
    """The comparison as a table."""
    pairs = list(zip(ours, torch, strict=True))
    accuracy = [
        100 * sum(one.label == label for one, label in zip(side, labels, strict=True)) / len(labels)
        for side in (ours, torch)
    ]
    differing = sum(mine.label != theirs.label for mine, theirs in pairs)
    largest_difference = max(abs(a.score - b.score) for a, b in pairs if a.label == b.label)
    rows = (
        ("accuracy, served", f"{accuracy[0]:.2f} %", ""),
        ("accuracy, torch fp32", f"{accuracy[1]:.2f} %", ""),
        (
            "difference",
            f"{accuracy[0] - accuracy[1]:+.2f} points",
            f"within {WANTED_POINTS} points",
        ),
        ("texts with another label", f"{differing:,} of {len(labels):,}", ""),
        ("largest difference of a score, same label", f"{largest_difference:.4f}", ""),
    )
    return Section(
        title="Accuracy of what is served",
        command="python -m bench.accuracy --texts FILE --model NAME",
        columns=("", "measured", "wanted"),
        rows=rows,
        data={"served": accuracy[0], "torch": accuracy[1], "other_labels": differing},
    )


def main(
    texts: Annotated[
        Path | None, typer.Option(help="A .csv with the columns text and label.")
    ] = None,
    model: Model = "",
    save: Save = True,
    by_torch_of: Annotated[Path | None, typer.Option("--by-torch", hidden=True)] = None,
) -> None:
    """Measure and print."""
    if by_torch_of is not None:
        _answer_by_torch(by_torch_of)
        return
    if texts is None:
        raise BadInput("--texts names a .csv with the columns text and label")
    end_as_by_control_c()
    rows = read_rows(texts, Columns())
    lines, labels = [row.text for row in rows], [row.label for row in rows]
    folder = model_folder(model)
    with Console(stderr=True).status("torch in fp32") as status:
        theirs = by_torch(folder, lines)
        status.update("the replicas")
        ours = served(folder, lines)
    result = section(ours, theirs, labels)
    result.show(console)
    if save:
        record("accuracy", result)


if __name__ == "__main__":
    typer.run(main)
