"""Objects exchanged between the processes of a training."""

from typing import TypeVar

from torch import distributed

__all__ = ["gathered"]

Item = TypeVar("Item")


def gathered(mine: list[Item]) -> list[Item]:
    """Returns the items of all processes, by rank; all processes must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    parts: list[list[Item]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, mine)
    return [item for part in parts for item in part]
