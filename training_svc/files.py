"""Small files that are whole or not there, whenever the process is killed."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace the file's content at once."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
