"""Stacks of which some planes are missing: the largest whole part of the grid that their axes span."""

from collections.abc import Set
from itertools import permutations, product
from math import prod

__all__ = ["Place", "complete", "whole_part"]

#: Position of a plane along the axes.
Place = tuple[int, ...]


def whole_part(wanted: list[list[int]], there: Set[Place], elsewhere: Set[Place]) -> list[list[int]]:
    """Finds the positions along each axis between which no plane is missing.

    A recording that was stopped lacks its last planes, in the order of its axes or with another axis as the slowest.
    Incomplete positions are dropped along the slowest axis that has complete ones.

    Args:
        wanted: Positions along each axis, the slowest first.
        there: Planes that are there.
        elsewhere: Planes that are in other files of a set: positions that are shared with them may lie anywhere.

    Returns:
        The positions that are kept; empty where planes are missing before others that are there.
    """
    best: list[list[int]] = []
    for order in permutations(range(len(wanted))):
        kept = _first_part([wanted[at] for at in order], order, there, elsewhere)
        if kept and prod(map(len, kept)) > (prod(map(len, best)) if best else 0):
            best = [kept[order.index(at)] for at in range(len(wanted))]
    return best


def _first_part(
    wanted: list[list[int]], order: tuple[int, ...], there: Set[Place], elsewhere: Set[Place]
) -> list[list[int]] | None:
    """The complete positions where the planes that are there come before all that are missing; else ``None``."""

    def place(positions: tuple[int, ...]) -> Place:
        placed = dict(zip(order, positions, strict=True))
        return tuple(placed[at] for at in range(len(order)))

    for at, positions in enumerate(wanted):
        # The set goes on in another file: a position that is shared between them is in neither as a whole.
        if len(positions) > 1:
            shared = {place(one)[order[at]] for one in product(*wanted) if place(one) in elsewhere}
            wanted = [
                [p for p in positions if p not in shared] if at == n else w for n, w in enumerate(wanted)
            ]
            break
    flags = [place(one) in there for one in product(*wanted)]
    count = sum(flags)
    if not count or not all(flags[:count]):
        return None
    sizes = complete(tuple(map(len, wanted)), count)
    return [positions[:size] for positions, size in zip(wanted, sizes, strict=True)]


def complete(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Returns the sizes of the largest whole part of a stack whose first planes are there.

    Of the slowest axis along which at least one position is complete, the complete positions are kept; along slower
    axes, the first.

    Args:
        sizes: Sizes of all, the slowest axis first.
        count: How many planes are there; at least one.
    """
    for at, size in enumerate(sizes):
        each = prod(sizes[at + 1 :])
        if count >= each:
            return (*(1 for _ in range(at)), min(size, count // each), *sizes[at + 1 :])
    return sizes
