"""Units of length and time, in the spellings that files have: ``µm``, ``um``, ``micron``, ``micrometer``.

The spelled-out units are those of OME-Zarr (UDUNITS-2).
"""

__all__ = ["MICROMETRES", "SECONDS"]

PREFIXES = {
    "yotta": 1e24, "zetta": 1e21, "exa": 1e18, "peta": 1e15, "tera": 1e12, "giga": 1e9, "mega": 1e6, "kilo": 1e3,
    "hecto": 1e2, "": 1.0, "deci": 1e-1, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12,
    "femto": 1e-15, "atto": 1e-18, "zepto": 1e-21, "yocto": 1e-24,
}  # fmt: skip
#: The micro sign and the Greek letter mu look alike.
SHORT = {
    "k": 1e3,
    "": 1.0,
    "d": 1e-1,
    "c": 1e-2,
    "m": 1e-3,
    "\u00b5": 1e-6,
    "\u03bc": 1e-6,
    "u": 1e-6,
    "n": 1e-9,
}
SHORT |= {"p": 1e-12, "f": 1e-15}


def _units(short: str, *spelled: str) -> dict[str, float]:
    units = {f"{prefix}{short}": size for prefix, size in SHORT.items()}
    for name in spelled:
        units |= {
            f"{prefix}{name}{plural}": size for prefix, size in PREFIXES.items() for plural in ("", "s")
        }
    return units


#: Length of units in metres.
METRES = _units("m", "meter", "metre")
METRES |= dict.fromkeys(("micron", "microns", r"\u00b5m", r"\u03bcm"), 1e-6)
METRES |= dict.fromkeys(
    ("\u00c5", "\u00e5", "\u212b", r"\u00c5", "angstrom", "angstroms", "\u00e5ngstr\u00f6m"), 1e-10
)
METRES |= dict.fromkeys(("inch", "inches", "in"), 0.0254)
METRES |= {"foot": 0.3048, "yard": 0.9144, "mile": 1609.344, "parsec": 3.0856775814913673e16}
#: Length of units in µm, and in s.
MICROMETRES = {name: float(f"{size / 1e-6:.12g}") for name, size in METRES.items()}
SECONDS = _units("s", "second") | dict.fromkeys((r"\u00b5s", "usec"), 1e-6)
SECONDS |= {"sec": 1.0, "secs": 1.0, "msec": 1e-3}
SECONDS |= dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0)
SECONDS |= dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0) | dict.fromkeys(("d", "day", "days"), 86400.0)
