"""Stacks as sources of their planes."""

from dataclasses import replace

from ddpm_lightning.data.pairs import Pair, PairSource

__all__ = ["StackPlanes"]


class StackPlanes:
    """The planes of stacks, one stack after the other; all planes of a stack belong to one field of view.

    The latest stack is kept in memory.

    Args:
        stacks: Pairs whose images have the shape (planes, H, W).
        planes: Number of planes of each stack.
        axis: Letter of the axis in the names of planes, such as ``z``.
    """

    def __init__(self, stacks: PairSource, planes: int, axis: str) -> None:
        self.stacks, self.planes, self.axis = stacks, planes, axis
        self._latest: tuple[int, Pair] | None = None

    def __len__(self) -> int:
        return len(self.stacks) * self.planes

    def __getitem__(self, index: int) -> Pair:
        number, plane = divmod(index, self.planes)
        if self._latest is None or self._latest[0] != number:
            self._latest = number, self.stacks[number]
        stack = self._latest[1]
        return replace(
            stack, low=stack.low[plane], high=stack.high[plane], name=f"{stack.name}_{self.axis}{plane}"
        )

    def neighbour(self, index: int, distance: int) -> int | None:
        """Returns the index of a neighbour of a plane in its stack."""
        return index + distance if 0 <= index % self.planes + distance < self.planes else None
