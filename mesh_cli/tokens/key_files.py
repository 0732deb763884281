"""Files of keys and tokens that containers may have mounted one by one."""

import os
from pathlib import Path


def write_in_place(path: Path, text: str) -> None:
    """Write a file that only its owner may read, and keep the file itself.

    A container that has mounted this one file would go on seeing the old one if it were replaced.
    A reader may meet half of the text, which is neither a JWKS nor a token, and reads again.
    """
    data = text.encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, data, 0)
        os.ftruncate(file, len(data))
        os.fsync(file)
    finally:
        os.close(file)
