"""The description of an image file, apart from its pixels.

An image is a sequence of planes (H, W) and one :class:`ImageInfo`: the axes, the sampling in µm and s, and the metadata
that a copy of the file must keep. Axes have the letters of tifffile: ``Y X`` span a plane; ``T`` is time, ``C``
channel, ``Z`` depth, and any other letter a stack whose meaning the file does not state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class PlaneIndex:
    """The position of a plane in its file.

    Attributes:
        number: Running number in file order, from 0.
        index: Position along each axis other than Y and X.
        label: Name such as ``t0_c1_z2``, made of the axes longer than 1; empty for a file of one plane.
    """

    number: int
    index: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class PageMetadata:
    """Metadata of a page of a TIFF.

    Attributes:
        description: ImageDescription.
        tags: Further tags as tifffile writes them: code, type, number of values, bytes of the values, and whether they
            belong to the first page only.
    """

    description: bytes = b""
    tags: tuple[tuple[int, int, int, bytes, bool], ...] = ()


class PageSource(Protocol):
    """Reads the metadata of the pages of a file when needed."""

    def read(self) -> Sequence[PageMetadata]:
        """Returns the metadata of the page of each plane; empty for further planes of a page."""
        ...


@dataclass(frozen=True)
class TiffTags:
    """Metadata of the source file, kept so that a copy of the file has the same.

    Attributes:
        axes: Axes of all planes of the source, before channels are chosen.
        shape: Lengths of these axes.
        dtype: Pixel type of the source.
        byteorder: ``<`` or ``>``.
        photometric: ``minisblack``, ``miniswhite`` or ``palette``.
        predictor: Whether neighbouring pixels were subtracted before compression.
        resolution: XResolution and YResolution as fractions, in pixels per unit.
        resolution_unit: ResolutionUnit: 1 none, 2 inch, 3 cm.
        description: ImageDescription: OME-XML, ImageJ's list, tifffile's JSON, or free text.
        imagej: ImageJ's binary metadata: labels, display ranges, look-up tables, regions of interest.
        colormap: ColorMap of a palette image with shape (3, 256 or 65536).
        date_time: DateTime as ``YYYY:MM:DD HH:MM:SS``.
        software: Software, if readers recognise the dialect by it.
        header: Settings that ScanImage stores before the first page.
        pages: Metadata of each page, or ``None``.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    byteorder: Literal["<", ">"] = "<"
    photometric: str = "minisblack"
    predictor: bool = False
    resolution: tuple[tuple[int, int], tuple[int, int]] | None = None
    resolution_unit: int = 1
    description: str = ""
    imagej: Mapping[str, Any] = field(default_factory=dict)
    colormap: np.ndarray | None = None
    date_time: str | None = None
    software: str = ""
    header: bytes = b""
    pages: "PageSource | None" = None


@dataclass(frozen=True)
class ImageInfo:
    """Axes, type and sampling of an image file.

    Attributes:
        axes: One letter per dimension, as in the file, ending in ``YX``: ``YX``, ``ZYX``, ``TCZYX``, ``IYX``.
        shape: Length of each axis.
        dtype: Pixel type in native byte order.
        pixel_size: Size of a pixel in µm as (y, x), or ``None`` if it is not recorded.
        z_step: Distance of planes in µm, or ``None``.
        time_step: Interval of frames in s, or ``None``.
        channel_names: Names of the channels, or empty.
        kind: Dialect of the file: ``plain``, ``imagej`` (hyperstack) or ``ome`` (OME-TIFF).
        bigtiff: Whether the file has 64-bit offsets.
        compression: tifffile's name of the codec, or ``None``.
        bits: Significant bits per pixel (12 for 12-bit data in uint16), or ``None`` for all of ``dtype``.
        channels: Which channels of the source these are, or ``None`` for all.
        tags: Metadata of the source file, or ``None`` if there is none.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    pixel_size: tuple[float, float] | None = None
    z_step: float | None = None
    time_step: float | None = None
    channel_names: tuple[str, ...] = ()
    kind: str = "plain"
    bigtiff: bool = False
    compression: str | None = None
    bits: int | None = None
    channels: tuple[int, ...] | None = None
    tags: TiffTags | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape) or not self.axes.endswith("YX"):
            raise ValueError(f"axes {self.axes!r} must end in 'YX' and match the shape {self.shape}")

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[-2], self.shape[-1]

    @property
    def plane_count(self) -> int:
        """Number of planes in the file."""
        return prod(self.shape[:-2])

    def planes(self) -> Iterator[PlaneIndex]:
        """Yields the index of every plane in file order."""
        stacked = [(axis.lower(), size > 1) for axis, size in zip(self.axes, self.shape, strict=True)][:-2]
        for number, index in enumerate(product(*map(range, self.shape[:-2]))):
            places = [f"{axis}{at}" for (axis, shown), at in zip(stacked, index, strict=True) if shown]
            yield PlaneIndex(number, index, "_".join(places))

    def with_dtype(self, dtype: np.dtype | str) -> "ImageInfo":
        """Returns the image in another data type: all bits of that type, 0 is black, and no palette."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        tags = self.tags and replace(self.tags, photometric="minisblack", colormap=None)
        return replace(self, dtype=dtype, bits=None, tags=tags)

    def projected(self, axis: str) -> "ImageInfo":
        """Returns the image without an axis, such as Z, and without the metadata of its planes.

        Args:
            axis: Letter of the axis; empty for none.
        """
        kept = [at for at, letter in enumerate(self.axes) if letter != axis]
        return replace(
            self,
            axes="".join(self.axes[at] for at in kept),
            shape=tuple(self.shape[at] for at in kept),
            z_step=None if axis == "Z" else self.z_step,
            time_step=None if axis == "T" else self.time_step,
            kind="plain" if self.kind == "scanimage" else self.kind,
            tags=None,
        )

    def with_channels(self, indices: Sequence[int]) -> "ImageInfo":
        """Returns the image with only these channels, in this order; a single channel drops the axis C."""
        axes, shape = self.axes, self.shape
        if "C" in axes:
            at = axes.index("C")
            kept = (len(indices),) if len(indices) > 1 else ()
            axes = axes if kept else axes.replace("C", "")
            shape = (*shape[:at], *kept, *shape[at + 1 :])
        names = tuple(self.channel_names[index] for index in indices) if self.channel_names else ()
        source = [self.channels[index] for index in indices] if self.channels else indices
        return replace(self, axes=axes, shape=shape, channel_names=names, channels=tuple(source))


def to_dtype(
    pixels: np.ndarray, dtype: np.dtype | str, bits: int | None = None
) -> tuple[np.ndarray, int, int]:
    """Converts restored values to a data type: rounded to the nearest integer and clipped to its range.

    Args:
        pixels: Finite values of any shape.
        dtype: Integer or float type.
        bits: Significant bits of unsigned integers: 12 keeps the values within 0 to 4095.

    Returns:
        The converted array, and the numbers of values that were too small and too large.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    dtype = np.dtype(dtype)
    if not np.isfinite(pixels).all():
        raise ValueError(f"NaN or infinite values cannot become {dtype}")
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    lowest, highest = limits.min, limits.max
    if bits is not None and dtype.kind == "u":
        highest = min(highest, 2**bits - 1)
    values = pixels
    if dtype.kind != "f" and pixels.dtype.kind == "f":
        # 16-bit integers are exact in float32, wider ones are not.
        exact = np.float64 if dtype.itemsize > 2 else np.float32
        values = np.rint(pixels, dtype=np.promote_types(pixels.dtype, exact))
    below = values < lowest
    # The largest 64-bit integers are not exact in float64; the power of two above them is.
    above = values > highest if dtype.kind == "f" else values >= highest + 1
    converted = np.where(below | above, 0, values).astype(dtype)
    converted[below], converted[above] = lowest, highest
    return converted, int(below.sum()), int(above.sum())


def invert_white(pixels: np.ndarray, info: ImageInfo) -> np.ndarray:
    """Inverts "0 is white" images of unsigned integers, and inverts them back; other images are returned unchanged."""
    if info.tags is None or info.tags.photometric != "miniswhite" or pixels.dtype.kind != "u":
        return pixels
    white = np.array(2 ** (info.bits or pixels.dtype.itemsize * 8) - 1, dtype=pixels.dtype)
    return white - pixels
