"""What settings may be: kind and range of each, checked before anything is built.

A key stands for itself and for everything below groups, so ``steps`` under ``sampler`` is ``sampler.steps`` in one
verb and ``model.sampler.steps`` in another: the longest entry that ends a path is the one that holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ddpm_lightning.utils.errors import UserError

__all__ = ["check_values"]


@dataclass(frozen=True)
class Limit:
    """Kind and range of a value.

    Attributes:
        kind: ``int``, ``float``, ``bool`` or ``str``.
        least: Least number allowed.
        most: Greatest number allowed.
        optional: Whether ``null`` is allowed.
        above: Whether ``least`` itself is excluded.
        below: Whether ``most`` itself is excluded.
    """

    kind: type
    least: float = float("-inf")
    most: float = float("inf")
    optional: bool = False
    above: bool = False
    below: bool = False

    def allows(self, value: Any) -> bool:
        """Says whether a value is allowed."""
        if value is None:
            return self.optional
        if self.kind in (bool, str):
            return isinstance(value, self.kind) and value != ""
        number = (int, float) if self.kind is float else int
        if isinstance(value, bool) or not isinstance(value, number) or not isfinite(value):
            return False
        over = value > self.least if self.above else value >= self.least
        under = value < self.most if self.below else value <= self.most
        return over and under

    def __str__(self) -> str:
        names = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "a text that is not empty",
        }
        text = names[self.kind]
        if self.least > float("-inf"):
            text += f" {'above' if self.above else 'of at least'} {self.least:g}"
        if self.most < float("inf"):
            text += " and" if self.least > float("-inf") else ""
            text += f" {'below' if self.below else 'at most'} {self.most:g}"
        return text + (", or null" if self.optional else "")


@dataclass(frozen=True)
class Texts:
    """A list of texts.

    Attributes:
        optional: Whether ``null`` is allowed.
        least: Fewest texts allowed.
        alone: Whether one text without a list is allowed.
    """

    optional: bool = False
    least: int = 0
    alone: bool = False

    def allows(self, value: Any) -> bool:
        """Says whether a value is allowed."""
        if value is None:
            return self.optional
        if isinstance(value, str):
            return self.alone and value != ""
        return (
            isinstance(value, list)
            and len(value) >= self.least
            and all(isinstance(entry, str) and entry for entry in value)
        )

    def __str__(self) -> str:
        least = f" of at least {self.least}" if self.least else ""
        alone = "a text, or " if self.alone else ""
        return f"{alone}a list{least} such as [a,b]{', or null' if self.optional else ''}"


@dataclass(frozen=True)
class SwitchOrAuto:
    """True, false, or ``auto``: whatever suits the machine."""

    def allows(self, value: Any) -> bool:
        """Says whether a value is allowed."""
        return isinstance(value, bool) or value == "auto"

    def __str__(self) -> str:
        return "true, false or auto"


COUNT, FROM_ZERO, MAYBE = Limit(int, 1), Limit(int, 0), Limit(int, 1, optional=True)
PATH, MAYBE_PATH = Limit(str), Limit(str, optional=True)
SWITCH = Limit(bool)
LIMITS = {
    "seed": Limit(int, 0, 2**32 - 1),
    "samples": MAYBE,
    "preset": MAYBE_PATH,
    "tolerance": Limit(float, 0, 1, optional=True, above=True, below=True),
    "compiled": SWITCH,
    "limit": MAYBE,
    "center_crop": Limit(int, 16, optional=True),
    "names": Texts(optional=True),
    "metrics": Texts(optional=True),
    "only": Texts(optional=True),
    "also": Texts(alone=True),
    "files": Texts(least=1, alone=True),
    "title": PATH,
    "protocols": Texts(least=1),
    "train": Texts(),
    "evaluate": Texts(),
    "budget.seconds": Limit(float, 0, above=True),
    "budget.steps": MAYBE,
    "figures": FROM_ZERO,
    "tile": Limit(int, 16, optional=True),
    "overlap": FROM_ZERO,
    "bfloat16": SwitchOrAuto(),
    "std": SWITCH,
    "half": SWITCH,
    "tta": Limit(bool, optional=True),
    "entropy": SWITCH,
    "intervals": SWITCH,
    "single": SWITCH,
    "preview": SWITCH,
    "plan": SWITCH,
    "margin": FROM_ZERO,
    "device": PATH,
    "dtype": PATH,
    "hot_pixels": PATH,
    "protocol": PATH,
    "on_error": PATH,
    "force": SWITCH,
    "sample": MAYBE_PATH,
    "name": MAYBE_PATH,
    "description": PATH,
    "license": PATH,
    "checkpoint": PATH,
    "run_folder": MAYBE_PATH,
    "output": MAYBE_PATH,
    "resume": MAYBE_PATH,
    "finetune": MAYBE_PATH,
    "metrics.resolution": SWITCH,
    "metrics.squirrel": SWITCH,
    "lpips.backbone": MAYBE_PATH,
    "align": SWITCH,
    "calibrate": SWITCH,
    "level": Limit(float, 0, 1, above=True, below=True),
    "processes": COUNT,
    "threads": COUNT,
    "workers": MAYBE,
    "batch": MAYBE,
    "trainer.max_steps": COUNT,
    "trainer.check_val_every_n_epoch": MAYBE,
    "trainer.gradient_clip_val": Limit(float, 0, optional=True, above=True),
    "data.root": PATH,
    "data.archive": MAYBE_PATH,
    "data.cache": MAYBE_PATH,
}


def check_values(config: dict[str, Any]) -> None:
    """Checks every value that has a limit.

    Raises:
        UserError: For the first value that is of another kind or out of range.
    """
    for path, value in _leaves(config):
        limit = _limit_of(path)
        if limit is not None and not limit.allows(value):
            found = "is empty" if value == "" else "is null" if value is None else f"is {value!r}"
            raise UserError(path, found, allowed=str(limit))


def _limit_of(path: str) -> Limit | Texts | SwitchOrAuto | None:
    """Returns the limit of a path: its own, or that of its end (``model.sampler.steps`` ends in ``sampler.steps``)."""
    parts = path.split(".")
    for start in range(len(parts) - 1):
        if limit := LIMITS.get(".".join(parts[start:])):
            return limit
    # A name without a group holds at the top only, but for the seed, which is passed on as it is.
    return LIMITS.get(path) or (LIMITS["seed"] if parts[-1] == "seed" else None)


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node
