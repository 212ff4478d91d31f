"""Pixel size, plane spacing and frame interval, as the TIFF dialects state them, in µm and s.

Impossible values (zero, negative, infinite, larger than a microscope's field of view) and values in unknown units are
ignored with a note: a wrong size would be worse than none.
"""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from ddpm_lightning.io.image import TiffTags
from ddpm_lightning.io.notes import Note
from ddpm_lightning.io.units import MICROMETRES, SECONDS
from ddpm_lightning.utils.errors import printable

__all__ = ["RESOLUTION_UNITS", "listed_sampling", "ome_sampling"]

INCH = 2
RESOLUTION_UNITS = {1: "", INCH: "inch", 3: "cm", 4: "mm", 5: "um"}
#: Programs that do not know the physical size write 72 to 600 dots per inch, which is a size on paper.
PAPER_PIXEL = 25400.0 / 600
#: Lengths in µm, from a fraction of an atom to 10 cm, and times in s, up to 30 years.
PLAUSIBLE = {"length": (1e-5, 1e5), "time": (1e-15, 1e9)}
#: What uncalibrated files state instead of a unit.
UNCALIBRATED = {"", "pixel", "pixels", "px", "reference frame", "none", "null"}


def ome_sampling(pixels: ElementTree.Element, notes: list[Note]) -> dict[str, Any]:
    """Returns ``pixel_size``, ``z_step`` and ``time_step`` of the Pixels of an OME-XML.

    Args:
        pixels: The element.
        notes: The list to which notes on ignored values are added.
    """
    y, x, z = (
        _length(
            pixels.get(f"PhysicalSize{axis}"),
            pixels.get(f"PhysicalSize{axis}Unit", "µm"),
            f"pixel size in {axis}",
            notes,
        )
        for axis in "YXZ"
    )
    interval = _time(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"), notes)
    return {"pixel_size": (y, x) if y and x else None, "z_step": z, "time_step": interval}


def listed_sampling(listed: Mapping[str, Any], tags: TiffTags, notes: list[Note]) -> dict[str, Any]:
    """Returns the same from ImageJ metadata, from JSON with the same keys, and from the resolution tags.

    Args:
        listed: The metadata; may be empty.
        tags: The tags.
        notes: The list to which notes on ignored values are added.
    """
    unit = str(listed.get("unit", RESOLUTION_UNITS[tags.resolution_unit]))
    sizes = None
    if tags.resolution or "unit" in listed:
        # ImageJ omits the resolution if a pixel is one unit wide.
        (x, y) = (below / above for above, below in tags.resolution or ((1, 1), (1, 1)))
        on_paper = unit in ("inch", "cm") and y * MICROMETRES[unit] > PAPER_PIXEL * 0.99
        if not on_paper:
            y, x = (
                _length(size, unit, f"pixel size in {axis}", notes) for size, axis in ((y, "Y"), (x, "X"))
            )
            sizes = (y, x) if y and x else None
    spacing = listed.get("spacing")
    depth = abs(spacing) if isinstance(spacing, int | float) else spacing
    return {
        "pixel_size": sizes,
        "z_step": _length(depth, str(listed.get("zunit", listed.get("unit", ""))), "pixel size in Z", notes),
        "time_step": _time(listed.get("finterval"), str(listed.get("tunit", "s")), notes),
    }


def _length(value: Any, unit: str, what: str, notes: list[Note]) -> float | None:
    return _scaled(value, unit, MICROMETRES, "length", what, notes)


def _time(value: Any, unit: str, notes: list[Note]) -> float | None:
    # Programs write zero if frames are recorded as fast as possible.
    unknown = value is None or str(value).strip() in ("0", "0.0", "")
    return None if unknown else _scaled(value, unit, SECONDS, "time", "frame interval", notes)


def _scaled(
    value: Any, unit: str, units: Mapping[str, float], kind: str, what: str, notes: list[Note]
) -> float | None:
    unit = unit.strip()
    if value is None or unit.lower() in UNCALIBRATED:
        return None
    factor = units.get(unit) or units.get(unit.lower())
    try:
        number = float(value) * (factor or 1.0)
    except (TypeError, ValueError):
        number = 0.0
    least, most = PLAUSIBLE[kind]
    if factor is None:
        notes.append(
            Note("left_aside", 1, f"the {what} is given in an unknown unit ({printable(unit)!r}) and ignored")
        )
    elif not least <= number <= most:
        text = f"the {what} is given as {printable(str(value))} {unit}, which is impossible, and ignored"
        notes.append(Note("left_aside", 1, text))
        return None
    return number if factor else None
