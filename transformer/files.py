"""Files that appear whole or not at all."""

import os
import re
import uuid
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, replacing what was there.

    It is written beside `path` under another name, then moved into place. A process that
    is killed in between leaves that other file: see `clear_unfinished`.
    """
    path = Path(path).resolve()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes began to write beside `path`.

    Nobody else may be writing to `path` meanwhile.
    """
    path = Path(path).resolve()
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}")
    for neighbour in path.parent.iterdir():
        if unfinished.fullmatch(neighbour.name):
            neighbour.unlink()
