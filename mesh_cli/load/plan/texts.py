"""The texts that a load sends: from a file, or the samples that come with the command."""

import csv
import random
from importlib import resources
from pathlib import Path

from mesh_cli.errors import BadInput

_SAMPLES = ("reviews_more.csv", "reviews_test.csv", "reviews_first.csv")


def read_texts(
    path: Path | None, text_column: str = "text", shuffle: int | None = None
) -> list[str]:
    """Texts of a .csv file's column, or of any other file's lines, each once, none blank.

    Without a path: sample reviews. `shuffle` is the seed of a new order. Raises BadInput.
    """
    found = _samples() if path is None else _from_file(path, text_column)
    texts = [text for text in dict.fromkeys(found) if text and not text.isspace()]
    if not texts:
        raise BadInput(f"{path}: has no texts")
    if shuffle is not None:
        random.Random(shuffle).shuffle(texts)  # noqa: S311 - an order, not a secret
    return texts


def _samples() -> list[str]:
    folder = resources.files("mesh_cli") / "sample_data"
    return [
        row["text"]
        for name in _SAMPLES
        for row in csv.DictReader((folder / name).read_text("utf-8").splitlines())
    ]


def _from_file(path: Path, text_column: str) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() != ".csv":
                return file.read().splitlines()
            rows = csv.DictReader(file, strict=True)
            if text_column not in (rows.fieldnames or ()):
                raise BadInput(
                    f"{path}: has no column {text_column!r}; it has "
                    f"{', '.join(rows.fieldnames or ()) or 'none'}: name it by --text-column"
                )
            return [row[text_column] or "" for row in rows]
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: {error}") from None
