r"""Networks applied to a canvas tile by tile, without seams.

The state of a sampler, its noise and every pointwise step belong to the whole canvas; only the *network* is applied to
tiles, and its outputs are blended at once by a smooth window before anything else happens to them. So neighbouring
tiles stay consistent, no texture is lost by averaging overlaps, and the sampler does not depend on the number of tiles
(the idea of MultiDiffusion, arXiv 2302.08113, applied to the predicted image). A canvas that fits in one tile is not
tiled; for all others, the side of the tiles is chosen so that a network processes as few pixels as possible.

The window is 0 over the outermost quarter of an overlap, where a network sees the padding beyond its tile, rises along
:math:`\sin^2` over the middle half, and is 1 from there on. If the receptive field of a network extends no further than
that quarter, the result does not depend on the tiling.

On CPUs every tile is computed separately by one thread, several of them in parallel: the result is the same to the last
bit for any number of threads and any batch of samples. Overlaps are summed in float64, so that the order of summation
does not affect the float32 result.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ddpm_lightning.inference.memory import is_out_of_memory, release
from ddpm_lightning.utils.errors import UserError

__all__ = ["Place", "Tiler"]

#: Tiles are not made smaller than this when memory is short.
SMALLEST_TILE = 64
#: Most pixels that a GPU computes at the same time.
PIXELS_AT_ONCE = 2**20

Network = Callable[..., Tensor]
#: Number of an image in its batch, and the first row and column of a tile.
Place = tuple[int, int, int]


class Tiler:
    """Applies a network to overlapping tiles of a canvas and blends its outputs.

    Args:
        tile: Longest side of the tiles in pixels; canvases up to this side are not cut. ``None`` for no tiles.
        overlap: Least number of pixels that neighbouring tiles share.
        size_divisor: Tiles start at, and their side is, a multiple of this: the network's ``size_divisor``.
        pixels: Most pixels that are computed at the same time, unless a single tile has more.
        threads: Most tiles that a CPU computes in parallel.
        on_tiles: Called with the number of tiles whenever some were computed.
        on_outputs: Called with the places and the outputs of these tiles.
        say: Called with a line whenever memory was too short and something was made smaller.

    Raises:
        UserError: If the tile is not larger than twice the overlap.
    """

    def __init__(
        self,
        tile: int | None,
        overlap: int,
        size_divisor: int = 1,
        pixels: int = PIXELS_AT_ONCE,
        threads: int = 1,
        on_tiles: Callable[[int], None] = lambda tiles: None,
        on_outputs: Callable[[list[Place], Tensor], None] = lambda places, outputs: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if overlap < 0 or (tile is not None and tile <= 2 * overlap):
            raise UserError(
                "tile",
                f"is {tile} with an overlap of {overlap}",
                allowed="a tile larger than twice the overlap",
            )
        self.overlap, self.size_divisor, self.pixels, self.threads = overlap, size_divisor, pixels, threads
        self.on_tiles, self.on_outputs, self.say = on_tiles, on_outputs, say
        self.tile = None if tile is None else self._rounded(tile)
        self._pool: ThreadPoolExecutor | None = None

    def _rounded(self, tile: int) -> int:
        """Returns a side of tiles that networks accept and that is larger than the overlap."""
        return -(-max(tile, self.overlap + self.size_divisor) // self.size_divisor) * self.size_divisor

    def side(self, length: int) -> int:
        """Returns the side of tiles along a side of a canvas: that with which the tiles have the fewest pixels.

        Of equally good sides it is the longest. Sides below half of the longest allowed one are not considered: with
        hardly any overlap, a great many tiny tiles could save a few pixels.
        """
        if self.tile is None or length <= self.tile:
            return length
        shortest = max(self.tile // 2, self.overlap + self.size_divisor)
        sides = range(self.tile, shortest - 1, -self.size_divisor)
        return min(sides, key=lambda side: side * self._count(length, side))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the tiles of a canvas."""
        return self.side(height), self.side(width)

    def _count(self, length: int, side: int) -> int:
        """Returns how many tiles of a side cover a side of a canvas."""
        stride = (side - self.overlap) // self.size_divisor * self.size_divisor
        return 1 + (-(-(length - side) // stride) if length > side else 0)

    def starts(self, length: int) -> list[int]:
        """Returns where tiles start along a side: evenly distributed multiples of ``size_divisor``."""
        side = self.side(length)
        last, count = length - side, self._count(length, side)
        return [
            round(last * k / max(count - 1, 1) / self.size_divisor) * self.size_divisor for k in range(count)
        ]

    def count(self, height: int, width: int) -> int:
        """Returns the number of tiles of a canvas."""
        return len(self.starts(height)) * len(self.starts(width))

    def __call__(self, network: Network, *inputs: Tensor) -> Tensor:
        """Returns the blended output.

        Args:
            network: Maps images (B, C, h, w), and per-image inputs (B,), to images (B, C', h, w).
            inputs: Canvases with shape (B, C, H, W), sides divisible by ``size_divisor``, and per-image inputs (B,).

        Raises:
            UserError: If memory does not suffice for the smallest tile.
        """
        canvas = next(value for value in inputs if value.ndim == 4)
        while True:
            try:
                return self._apply(network, inputs, canvas)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, which keeps the tensors of the failed attempt.
            self._shrink(canvas)
            release()

    def _shrink(self, canvas: Tensor) -> None:
        """Makes the number of tiles that are computed at the same time smaller, or the tiles themselves."""
        height, width = size = self.size(*canvas.shape[-2:])
        count, side = self.at_once(size, canvas.device), max(size)
        if count > 1:
            self.pixels = count // 2 * height * width
        elif side > max(SMALLEST_TILE, self.size_divisor):
            self.shrink_tile(side)
        else:
            raise UserError(
                "memory",
                f"does not suffice for one tile of {side} pixels",
                remedy="close other programs, use device=cpu, bfloat16=true or a smaller model",
            )
        size = self.size(*canvas.shape[-2:])
        count = self.at_once(size, canvas.device)
        self.say(f"out of memory: continuing with tiles of {max(size)} pixels, {count} at a time")

    def shrink_tile(self, side: int) -> None:
        """Halves the side of tiles, and reduces their overlap if it would leave too little of them.

        Args:
            side: The side of the tiles so far, in pixels.
        """
        self.overlap = min(self.overlap, side // 8)
        self.tile = self._rounded(max(side // 2, SMALLEST_TILE))

    def _apply(self, network: Network, inputs: Sequence[Tensor], canvas: Tensor) -> Tensor:
        height, width = canvas.shape[-2:]
        size = self.size(height, width)
        ys, xs = self.starts(height), self.starts(width)
        places = [(n, y, x) for n in range(len(canvas)) for y in ys for x in xs]
        computed = self._computed(network, inputs, places, size)
        if len(ys) == len(xs) == 1:
            return torch.cat([outputs for _, outputs in computed])
        # Apple's GPUs have no float64.
        exact = {
            "dtype": torch.float32 if canvas.device.type == "mps" else torch.float64,
            "device": canvas.device,
        }
        rows = {y: _window(y, size[0], height, self.overlap).to(**exact)[:, None] for y in ys}
        columns = {x: _window(x, size[1], width, self.overlap).to(**exact) for x in xs}
        total = torch.zeros(0)
        for chosen, outputs in computed:
            if not total.numel():
                total = torch.zeros(len(canvas), outputs.shape[1], height, width, **exact)
            for (n, y, x), output in zip(chosen, outputs, strict=True):
                total[n, :, y : y + size[0], x : x + size[1]] += output * (rows[y] * columns[x])
        total /= _profile(rows, height, exact)[:, None]
        total /= _profile(columns, width, exact)
        return total.to(canvas.dtype)

    def _computed(
        self, network: Network, inputs: Sequence[Tensor], places: list[Place], size: tuple[int, int]
    ) -> Iterator[tuple[list[Place], Tensor]]:
        """Yields places and the network's outputs there, in order."""
        device = inputs[0].device
        on_cpu, at_once = device.type == "cpu", self.at_once(size, device)
        step = 1 if on_cpu else at_once
        groups = [places[first : first + step] for first in range(0, len(places), step)]
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

        def compute(group: list[Place]) -> Tensor:
            # Modes belong to a thread.
            with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]):
                return network(*(_cut(value, group, *size) for value in inputs)).to(inputs[0].dtype)

        results = self._side_by_side(compute, groups, at_once) if on_cpu else map(compute, groups)
        for group, outputs in zip(groups, results, strict=True):
            self.on_tiles(len(group))
            self.on_outputs(group, outputs)
            yield group, outputs

    def at_once(self, size: tuple[int, int], device: torch.device) -> int:
        """Returns how many tiles with a height and a width are computed at the same time."""
        count = max(1, self.pixels // (size[0] * size[1]))
        return min(count, self.threads) if device.type == "cpu" else count

    def _side_by_side(
        self, compute: Callable[[list[Place]], Tensor], groups: list[list[Place]], threads: int
    ) -> Iterator[Tensor]:
        """Yields results in order, computed a few ahead: an interruption waits only for these few."""
        if self._pool is None or self._pool._max_workers != threads:
            self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        waiting: deque[Future] = deque()
        try:
            for group in groups:
                waiting.append(self._pool.submit(compute, group))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _cut(value: Tensor, places: list[Place], height: int, width: int) -> Tensor:
    """Cuts tiles out of canvases, or repeats per-image values for each tile."""
    if value.ndim == 4:
        return torch.stack([value[n, :, y : y + height, x : x + width] for n, y, x in places])
    return torch.stack([value[n] for n, _, _ in places])


def _window(start: int, side: int, length: int, overlap: int) -> Tensor:
    """Returns the weights of a tile along one side of the canvas, with shape (side,), float64."""
    place = torch.arange(side, dtype=torch.float64) + 0.5
    before = place if start > 0 else torch.full_like(place, torch.inf)
    after = side - place if start + side < length else torch.full_like(place, torch.inf)
    rise = (torch.minimum(before, after) - overlap / 4) / max(overlap / 2, 1e-9)
    return torch.sin(rise.clamp(0, 1) * torch.pi / 2) ** 2


def _profile(windows: dict[int, Tensor], length: int, options: dict) -> Tensor:
    """Returns the sum of all windows along a side, with shape (length,)."""
    total = torch.zeros(length, **options)
    for start, window in windows.items():
        total[start : start + window.numel()] += window.flatten()
    return total
