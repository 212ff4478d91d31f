"""Names of files and folders as people type them."""

import os
from pathlib import Path

__all__ = ["expanded"]


def expanded(name: str | Path) -> Path:
    """Returns the path of a name, in which a leading ``~`` stands for a home folder.

    A file that is really called ``~name`` wins, and so does a name behind ``~`` that belongs to no user.
    """
    path = Path(name)
    if os.path.exists(path):  # noqa: PTH110  (Path.exists raises where a name is too long)
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path
