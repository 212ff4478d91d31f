"""The largest complete part of a stack with missing planes."""

from collections.abc import Set
from itertools import permutations, product
from math import prod

__all__ = ["Place", "complete", "complete_part"]

#: Position of a plane along the axes.
Place = tuple[int, ...]


def complete_part(wanted: list[list[int]], there: Set[Place], elsewhere: Set[Place]) -> list[list[int]]:
    """Finds positions along each axis such that no plane is missing.

    A stopped recording lacks its last planes, in the order of its axes or of a permutation of them. Incomplete
    positions are dropped along the slowest axis that has complete ones.

    Args:
        wanted: Positions along each axis, the slowest first.
        there: Planes that are stored.
        elsewhere: Planes that are stored in other files of a set; positions that are shared with them may be anywhere.

    Returns:
        The positions that are kept; empty if planes are missing before others that are stored.
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
    """Returns the complete positions if all stored planes precede the missing ones; else ``None``."""

    def place(positions: tuple[int, ...]) -> Place:
        placed = dict(zip(order, positions, strict=True))
        return tuple(placed[at] for at in range(len(order)))

    for at, positions in enumerate(wanted):
        # The set continues in another file: a position that both files share is complete in neither.
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
    """Returns the sizes of the largest complete part of a stack of which only the first planes are stored.

    Complete positions are kept along the slowest axis that has any, and the first position along slower axes.

    Args:
        sizes: Sizes of all, the slowest axis first.
        count: Number of stored planes, at least 1.
    """
    for at, size in enumerate(sizes):
        each = prod(sizes[at + 1 :])
        if count >= each:
            return (*(1 for _ in range(at)), min(size, count // each), *sizes[at + 1 :])
    return sizes
