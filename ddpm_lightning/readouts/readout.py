"""Readouts by name: built-in ones and any Python function, with their settings.

On the command line, ``readout=[count,filament_length]`` names readouts, and ``readout=[{name:puncta,width:2}]`` sets
their arguments. A name with dots, such as ``mylab.analysis.nuclei``, is a Python function that takes an image with
shape (H, W), float64, in its own units, and returns numbers by name. If it has an argument ``pixel_size``, it gets the
size of a pixel in µm, or 1 if that is unknown; if it has an argument ``reference``, it gets the image that relative
thresholds are taken from. Only the user's own configuration names functions, never a file.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from math import inf
from typing import Annotated, Any, get_type_hints

import numpy as np
from pydantic import BeforeValidator

from ddpm_lightning.utils.allowed_classes import own_function
from ddpm_lightning.utils.errors import UserError, nearest
from ddpm_lightning.utils.settings import Text, described
from ddpm_lightning.utils.signatures import invalid_value

__all__ = ["BUILT_IN", "Quantity", "Readout", "ReadoutNames", "find_readouts", "measure"]


@dataclass(frozen=True)
class Quantity:
    """What kind of number a readout returns.

    Attributes:
        power: The unit is that of a length to this power.
        intensity: Whether the unit is that of the image.
        whole: Whether it is a whole number.
        least: Its least value.
        found: Whether it grows with what is found in an image, so that an image of noise should have none.
    """

    power: int = 0
    intensity: bool = False
    whole: bool = False
    least: float = -inf
    found: bool = False

    def unit(self, has_pixel_size: bool) -> str:
        """Returns its unit; empty for a number without one."""
        if self.intensity:
            return "intensity"
        if not self.power:
            return ""
        return ("µm" if has_pixel_size else "px") + {1: "", 2: "²"}[self.power]


COUNT = Quantity(whole=True, least=0.0, found=True)
LENGTH, AREA = Quantity(1, least=0.0, found=True), Quantity(2, least=0.0, found=True)
MEAN_LENGTH, MEAN_AREA = Quantity(1, least=0.0), Quantity(2, least=0.0)
INTENSITY, NUMBER = Quantity(intensity=True), Quantity()
Function = Callable[..., Mapping[str, float]]
#: Built-in readouts by name: their function in this package, which is imported when needed, and those of its numbers
#: that they return; none stands for all.
BUILT_IN: dict[str, tuple[str, dict[str, Quantity]]] = {
    "count": ("objects.objects", {"objects": COUNT}),
    "area": ("objects.objects", {"area": AREA, "object_area": MEAN_AREA}),
    "filament_length": ("filaments.filaments", {"length": LENGTH}),
    "branch_points": ("filaments.filaments", {"branch_points": COUNT}),
    "puncta": ("puncta.puncta", {"puncta": COUNT, "nearest_distance": MEAN_LENGTH}),
    "nuclei": ("puncta.nuclei", {"nuclei": COUNT}),
    "regions": ("intensity.regions", {}),
    "texture": ("intensity.texture", {"contrast": NUMBER, "homogeneity": NUMBER, "correlation": NUMBER}),
    "profile": ("intensity.profile", {"intensity": INTENSITY}),
}
#: Arguments that are not settings.
GIVEN = ("pixel_size", "reference")
#: Names of readouts, or named values with ``name`` and settings; a single one is a list of one.
ReadoutNames = Annotated[
    list[Text | dict[str, Any]],
    BeforeValidator(lambda given: [given] if isinstance(given, str | Mapping) else given),
]


@dataclass(frozen=True)
class Readout:
    """A function that measures an image, with its settings.

    Attributes:
        name: Name of a built-in readout, or dotted path of a function.
        settings: Arguments that were set.
        function: The function.
    """

    name: str
    settings: Mapping[str, Any]
    function: Function

    @cached_property
    def key(self) -> str:
        """Name, all settings, and, for a function of the user, a hash of its code: what a calibration is valid for."""
        parameters = inspect.signature(self.function).parameters
        values = {name: one.default for name, one in list(parameters.items())[1:] if name not in GIVEN}
        about: dict[str, Any] = {"name": self.name, **values, **self.settings}
        arrays = {name: value for name, value in about.items() if isinstance(value, np.ndarray)}
        about |= {name: _hash(array.tobytes()) for name, array in arrays.items()}
        if self.name not in BUILT_IN:
            about["code"] = _hash_of(self.function)
        return json.dumps(about, sort_keys=True, default=str)

    def quantity(self, number: str) -> Quantity:
        """Returns the kind of one of its numbers."""
        if self.name == "regions":
            return INTENSITY
        return BUILT_IN.get(self.name, ("", {}))[1].get(number, NUMBER)

    def __call__(
        self, image: np.ndarray, pixel_size: float | None = None, reference: np.ndarray | None = None
    ) -> dict[str, float]:
        """Measures an image; see :func:`measure`."""
        return measure([self], image, pixel_size, reference)[0]

    def _all_numbers(
        self, image: np.ndarray, pixel_size: float | None, reference: np.ndarray | None
    ) -> dict[str, float]:
        """Returns all numbers of the function."""
        parameters = inspect.signature(self.function).parameters
        given = {"pixel_size": pixel_size or 1.0, "reference": reference}
        known = {name: value for name, value in given.items() if name in parameters and value is not None}
        try:
            found = self.function(image.astype(np.float64), **known, **self.settings)
            return {str(name): float(value) for name, value in found.items()}
        except UserError:
            raise
        except Exception as error:  # whatever the code of others raises
            raise UserError(
                f"readout={self.name}",
                f"failed: {type(error).__name__}: {error}",
                allowed="a function that takes an image and returns numbers by name",
            ) from error


def measure(
    readouts: Sequence[Readout],
    image: np.ndarray,
    pixel_size: float | None = None,
    reference: np.ndarray | None = None,
) -> list[dict[str, float]]:
    """Measures an image; what several readouts share is computed once.

    Args:
        readouts: The readouts.
        image: Image with shape (H, W).
        pixel_size: Size of a pixel in µm; if it is not known, lengths are in pixels.
        reference: Image that relative thresholds are taken from, if a function accepts one; by default the image
            itself.

    Returns:
        Numbers by name, for each readout; NaN for one that is not defined, such as the distance between fewer than two
        puncta.

    Raises:
        UserError: If a function fails, or returns anything else.
    """
    known: dict[tuple[Function, str], dict[str, float]] = {}
    results = []
    for readout in readouts:
        same = readout.function, json.dumps(dict(readout.settings), sort_keys=True, default=id)
        if same not in known:
            known[same] = readout._all_numbers(image, pixel_size, reference)
        numbers = BUILT_IN.get(readout.name, ("", {}))[1] or known[same]
        results.append({name: known[same][name] for name in numbers})
    return results


def find_readouts(given: Sequence[str | Mapping[str, Any]]) -> tuple[Readout, ...]:
    """Returns readouts by their names, after checking their settings.

    Args:
        given: Names, or mappings with ``name`` and settings.

    Raises:
        UserError: If one is unknown, is named twice, or has a setting that does not exist or is out of range.
    """
    found = tuple(_find(one) for one in given)
    names = [readout.name for readout in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"readout={twice[0]}", "is named twice", remedy="leave one out")
    return found


def _find(given: str | Mapping[str, Any]) -> Readout:
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise UserError("readout", f"is {given!r}", allowed="a name, or {name: NAME, SETTING: VALUE}")
    if name in BUILT_IN:
        module, _, of_module = BUILT_IN[name][0].partition(".")
        function = getattr(import_module(f"ddpm_lightning.readouts.{module}"), of_module)
    elif "." in name:
        function = own_function(name, f"readout={name}")
    else:
        near = nearest(name, BUILT_IN)
        allowed = f"{', '.join(BUILT_IN)}, or a function such as mypackage.module.function"
        raise UserError(f"readout={name}", "is unknown", allowed, f"did you mean {near[0]}?" if near else "")
    _check(name, function, settings)
    return Readout(name, settings, function)


def _check(name: str, function: Function, settings: Mapping[str, Any]) -> None:
    parameters = dict(list(inspect.signature(function).parameters.items())[1:])
    allowed = [one for one in parameters if one not in GIVEN]
    hints = get_type_hints(function, include_extras=True)
    for setting, value in settings.items():
        if setting not in allowed:
            raise UserError(f"readout.{name}.{setting}", "is not a setting", ", ".join(allowed) or "none")
        if not isinstance(value, np.ndarray) and (
            wrong := invalid_value(setting, value, hints.get(setting, Any))
        ):
            path, one, range_ = wrong
            raise UserError(f"readout.{name}.{path}", described(one), range_)
    required = [one for one in allowed if parameters[one].default is inspect.Parameter.empty]
    if missing := [one for one in required if one not in settings]:
        raise UserError(
            f"readout.{name}.{missing[0]}", "is not given", remedy=f"{{name:{name},{missing[0]}:…}}"
        )


def _hash_of(function: Function) -> str:
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):  # without source, such as built into a binary
        code = repr(function)
    return _hash(code.encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
