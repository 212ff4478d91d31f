"""The order in which a plane of a stack and its neighbours are arranged: the only place that defines it.

Methods that use N neighbours on each side see images with 1 + 2 N channels: the plane itself comes first, followed by
its neighbours, the nearest ones first: one before, one after, two before, two after, and so on. All have the scale of
intensities of the plane itself. A missing neighbour, such as one beyond the ends of the stack, is NaN. If all are
missing, or a method uses none, there is only the first channel.
"""

__all__ = ["neighbour_distances"]


def neighbour_distances(neighbours: int) -> tuple[int, ...]:
    """Returns the distances of the neighbours of a plane, in the order of the channels after the first.

    Args:
        neighbours: Number of planes on each side.
    """
    return tuple(sign * distance for distance in range(1, neighbours + 1) for sign in (-1, 1))
