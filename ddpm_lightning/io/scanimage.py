"""ScanImage: axes and sampling from its header, and the header itself for the result.

A ScanImage BigTIFF stores its settings between the TIFF header and the first page, and in the tag Software of its
pages. They state the planned numbers of frames, slices and channels; planes are stored in that order, channels fastest.

References:
    ScanImage BigTIFF specification, https://docs.scanimage.org/Appendix/ScanImage%2BBigTiff%2BSpecification.html.
"""

import re
import struct
from collections.abc import Mapping
from math import isfinite, prod
from typing import Any

from tifffile import TiffFile, TiffPageSeries

from ddpm_lightning.io.image import ImageInfo
from ddpm_lightning.io.notes import Note

__all__ = ["block", "edited", "read_block", "sampling", "series_of"]

MAGIC, START, SIZES = 0x07030301, 16, "<IIII"
CHANNELS, FRAMES = "SI.hChannels.channelSave", "SI.hStackManager.framesPerSlice"
SLICES = ("SI.hStackManager.actualNumSlices", "SI.hStackManager.numSlices")
VOLUMES = ("SI.hStackManager.actualNumVolumes", "SI.hStackManager.numVolumes", "SI.hFastZ.numVolumes")
AVERAGED = "SI.hScan2D.logAverageFactor"
FLYBACK = "SI.hStackManager.numFramesPerVolumeWithFlyback"


def series_of(tif: TiffFile, notes: list[Note]) -> TiffPageSeries | None:
    """Arranges the pages as the header states; ``None`` if it does not say.

    Args:
        tif: The open file.
        notes: The list to which a note is added if the header contradicts the file.
    """
    data, first = _settings(tif), tif.pages.first
    if CHANNELS not in data:
        return None
    pages = [tif.pages[0], *tif.series[0][1:]]
    count, saved = len(pages), data[CHANNELS]
    channels = len(saved) if isinstance(saved, list | tuple) else 1
    slices, volumes, frames = (_count(data, keys) for keys in (SLICES, VOLUMES, (FRAMES,)))
    slices = slices or 1
    if frames and (averaged := _count(data, (AVERAGED,))):
        frames = max(1, frames // averaged)
    if volumes != 1 and FLYBACK in data:
        slices = _count(data, (FLYBACK,)) or slices
    if slices > 1 and frames == 1 and volumes != 1:
        axes, shape = "TZC", (volumes or max(1, -(-count // (slices * channels))), slices, channels)
    elif volumes in (None, 1) or slices == 1:
        axes, shape = "ZTC", (slices, frames or max(1, -(-count // (slices * channels))), channels)
    else:
        axes, shape = "TZQC", (volumes, slices, frames or 1, channels)
    if count > prod(shape):
        axes, shape = "IC", (-(-count // channels), channels)
        text = f"the ScanImage header does not say how its {count} pages are arranged: frames are stacked along I"
        notes.append(Note("guessed", count, text))
    axes, shape = f"{axes}YX", (*shape, *first.shape)
    return TiffPageSeries(pages, shape, first.dtype, axes, parent=tif, kind="scanimage")


def sampling(tif: TiffFile) -> dict[str, float]:
    """Returns plane spacing in µm (``spacing``) and frame interval in s (``finterval``), if the header has them."""
    data = _settings(tif)
    step = _positive(
        data.get("SI.hStackManager.actualStackZStepSize", data.get("SI.hStackManager.stackZStepSize"))
    )
    rate = _positive(data.get("SI.hRoiManager.scanFrameRate"))
    volume = _positive(data.get("SI.hRoiManager.scanVolumeRate"))
    rate = volume if volume and _count(data, VOLUMES) != 1 and (_count(data, SLICES) or 1) > 1 else rate
    return ({"spacing": step, "zunit": "um"} if step else {}) | ({"finterval": 1 / rate} if rate else {})


def read_block(tif: TiffFile) -> bytes:
    """Reads the raw settings between the header and the first page; empty if there are none."""
    if not tif.is_bigtiff or tif.byteorder != "<":
        return b""
    tif.filehandle.seek(START)
    head = tif.filehandle.read(struct.calcsize(SIZES))
    if len(head) < struct.calcsize(SIZES):
        return b""
    magic, _, settings, regions = struct.unpack(SIZES, head)
    return head + tif.filehandle.read(settings + regions) if magic == MAGIC else b""


def block(stored: bytes, info: ImageInfo) -> bytes:
    """Returns the settings as they must be stored in a file with the planes of ``info``.

    Args:
        stored: What :func:`read_block` found.
        info: Description of the file to write.
    """
    if not stored:
        return b""
    head = struct.calcsize(SIZES)
    magic, version, settings, _ = struct.unpack_from(SIZES, stored)
    text = stored[head : head + settings].rstrip(b"\0").decode("utf-8", "surrogateescape")
    new = edited(text, info).encode("utf-8", "surrogateescape") + b"\0"
    regions = stored[head + settings :]
    return struct.pack(SIZES, magic, version, len(new), len(regions)) + new + regions


def edited(text: str, info: ImageInfo) -> str:
    """Adjusts the numbers of frames and slices, and the channels, in the settings to the planes of ``info``."""
    sizes = dict(zip(info.axes, info.shape, strict=True))
    averaged = int((re.search(rf"^{re.escape(AVERAGED)} *= *(\d+)", text, re.MULTILINE) or [0, 1])[1]) or 1
    by_volume = info.axes.find("T") < info.axes.find("Z")
    new = dict.fromkeys(VOLUMES, sizes.get("T")) if by_volume else {FRAMES: sizes.get("T", 0) * averaged}
    new |= dict.fromkeys(SLICES, sizes.get("Z"))
    for key, count in new.items():
        before = re.search(rf"^{re.escape(key)} *= *(\d+)", text, re.MULTILINE)
        # Only numbers that are lower than planned are changed.
        if before and count and count < int(before[1]):
            text = text[: before.start(1)] + str(count) + text[before.end(1) :]
    saved = re.search(rf"^{re.escape(CHANNELS)} *= *(.*)$", text, re.MULTILINE)
    if saved and info.channels is not None:
        numbers = re.findall(r"\d+", saved[1])
        kept = [numbers[channel] for channel in info.channels if channel < len(numbers)]
        text = (
            text[: saved.start(1)]
            + (f"[{';'.join(kept)}]" if len(kept) > 1 else kept[0])
            + text[saved.end(1) :]
        )
    return text


def _settings(tif: TiffFile) -> Mapping[str, Any]:
    data = (tif.scanimage_metadata or {}).get("FrameData") if tif.is_scanimage else None
    return data if isinstance(data, dict) else {}


def _count(data: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """Returns the first of these settings that exists: a count, or ``None`` if it is unlimited (inf)."""
    stated = next((data[key] for key in keys if key in data), 1)
    number = _positive(stated)
    return int(number) if number else None


def _positive(value: Any) -> float | None:
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if isfinite(number) and number > 0 else None
