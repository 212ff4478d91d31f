"""Names of files and folders as people type them, and commands that name them."""

import os
import shlex
from pathlib import Path

__all__ = ["command_of", "expanded"]


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


def command_of(verb: str, *more: object, **settings: object) -> str:
    """Returns a command of this program as it is typed in a shell.

    Args:
        verb: The verb.
        more: What is no setting, such as a folder.
        settings: Settings with their values.
    """
    values = (f"{key}={value}" for key, value in settings.items())
    return shlex.join(["ddpm-lightning", verb, *map(str, more), *values])
