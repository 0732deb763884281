"""Reads labelled texts from a Hugging Face dataset: a hub id or a local folder."""

import os
from collections.abc import Iterator
from typing import Any

from mesh_cli.errors import BadInput
from mesh_cli.rows.csv_files import Columns, Row

_SPLITS = {"train": "train", "test": "test"}


def read_rows(name: str, columns: Columns) -> list[Row]:
    """Read the splits `train` and `test` of a dataset.

    The hub gets HUGGINGFACE_TOKEN when that is set. Raises BadInput when the dataset cannot be
    loaded or lacks the columns.
    """
    # The import takes a second; at the top of the file it would delay every verb.
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, token=os.environ.get("HUGGINGFACE_TOKEN") or None)
    except Exception as error:  # its loaders raise many types of errors
        raise BadInput(f"data set {name!r} cannot be loaded: {error}") from None
    if "train" not in loaded:
        raise BadInput(f"data set {name!r} has no split train; it has {', '.join(loaded)}")
    rows = [
        row
        for split, ours in _SPLITS.items()
        if split in loaded
        for row in _split_rows(loaded[split], name, columns, ours if "test" in loaded else "")
    ]
    if not rows:
        raise BadInput(f"data set {name!r} has no rows")
    return rows


def _split_rows(dataset: Any, name: str, columns: Columns, split: str) -> Iterator[Row]:
    for wanted in (columns.text, columns.label):
        if wanted not in dataset.column_names:
            raise BadInput(
                f"data set {name!r} has no column {wanted!r}; "
                f"it has {', '.join(dataset.column_names)}: name them by --text-column, "
                "--label-column"
            )
    feature = dataset.features[columns.label]
    to_name = getattr(feature, "int2str", str)
    for number, item in enumerate(dataset, 1):
        yield Row(number, item[columns.text], to_name(item[columns.label]), split)
