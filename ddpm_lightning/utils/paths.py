"""Interprets file and folder names as typed, and quotes them in suggested commands."""

import os
import shlex
from pathlib import Path

__all__ = ["command_of", "expanded", "natural"]


def expanded(name: str | Path) -> Path:
    """Returns a path with a leading ``~`` replaced by the home folder.

    The name is kept if a file is really called ``~name``, or if no user has that name.
    """
    path = Path(name)
    if os.path.exists(path):  # noqa: PTH110  (Path.exists raises if a name is too long)
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def command_of(verb: str, *more: object, **settings: object) -> str:
    """Returns a command of this program as it is typed in a shell.

    Args:
        verb: The verb.
        more: What is no setting, such as a folder.
        settings: Settings with their values.
    """
    values = (f"{key}={value}" for key, value in settings.items())
    return shlex.join(["ddpm-lightning", verb, *map(str, more), *values])


def natural(text: str) -> tuple:
    """Key by which 2 comes before 10."""
    parts, number = [], ""
    for letter in f"{text}\0":
        if letter.isdecimal():
            number += letter
            continue
        if number:
            parts.append((0, int(number), ""))
            number = ""
        parts.append((1, 0, letter))
    return tuple(parts)
