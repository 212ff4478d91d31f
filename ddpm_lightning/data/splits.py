"""Splits a data set into training, validation and test sets that share no field of view.

Crops, slices and repeated captures of one field show the same structure: a model that saw one has seen them all. So
entire fields are assigned to splits, either by name or by fractions. With fractions, fields are ordered by a hash of
(seed, field), which depends neither on the order of the files nor on other fields: new fields do not move old ones.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import natural

__all__ = ["SPLITS", "Split", "assign", "check_split", "differences"]

SPLITS = ("train", "val", "test")

#: Fractions of the fields ({"train": 8, "val": 1, "test": 1}), or their names ({"val": ["20"], "test": ["19"]}).
Split = Mapping[str, float | Sequence[str | int]]


def assign(fields: Iterable[str], split: Split, seed: int = 0, key: str = "data.split") -> dict[str, str]:
    """Assigns fields of view to splits.

    Args:
        fields: Names of the fields, in any order, with or without repetition.
        split: For each split its fraction or the names of its fields. Fields that are not named are distributed by the
            fractions; without any fractions they are used for training.
        seed: Seed of the assignment by fractions.
        key: Configuration key of ``split``, for errors.

    Raises:
        UserError: If the split is invalid, names a field that does not exist, or leaves a split empty.
    """
    fields = sorted(set(map(str, fields)), key=natural)
    fractions = check_split(split, key)
    named = {name: part for name, part in split.items() if isinstance(part, Sequence)}
    found = _named(named, fields, key)
    rest = [field for field in fields if field not in found]
    if not sum(fractions.values()) > 0:
        return found | dict.fromkeys(rest, "train")
    return found | _by_fractions(
        rest, {name: part for name, part in fractions.items() if part > 0}, seed, key
    )


def check_split(split: Split, key: str) -> dict[str, float]:
    """Returns the fractions of a split.

    Raises:
        UserError: If the split is invalid.
    """
    allowed = f"for each of {', '.join(SPLITS)} a fraction or a list of fields, such as train=0.8 or val=[20]"
    if not split or not set(split) <= set(SPLITS) or any(isinstance(part, str) for part in split.values()):
        raise UserError(key, f"is {dict(split)}", allowed=allowed)
    fractions = {name: float(part) for name, part in split.items() if isinstance(part, int | float)}
    total, least = sum(fractions.values()), min(fractions.values(), default=0)
    if least < 0 or (len(fractions) == len(split) and not total > 0):
        raise UserError(
            key, f"is {dict(split)}", allowed=f"{allowed}; fractions of 0 or more that are not all 0"
        )
    return fractions


def _named(parts: Mapping[str, Sequence[str | int]], fields: list[str], key: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, members in parts.items():
        for field in map(str, members):
            if field not in fields or field in found:
                trouble = f"as {found[field]} does" if field in found else "which does not exist"
                raise UserError(
                    f"{key}.{name}",
                    f"names the field {field!r}, {trouble}",
                    allowed=_few(fields),
                    remedy=f"choose others for {key}.{name}, or another field_pattern",
                )
            found[field] = name
    return found


def _by_fractions(fields: list[str], fractions: dict[str, float], seed: int, key: str) -> dict[str, str]:
    if len(fields) < len(fractions):
        raise UserError(
            key,
            f"asks for {len(fractions)} splits, but there are only {len(fields)} fields of view ({_few(fields)})",
            remedy="add images of other fields, distinguish fields by field_pattern, or ask for fewer splits",
        )
    exact = np.array(list(fractions.values())) / sum(fractions.values()) * len(fields)
    counts = np.maximum(np.floor(exact).astype(int), 1)
    while counts.sum() != len(fields):
        # Largest remainder: the split furthest from its fraction gives or takes one field; none becomes empty.
        step = 1 if counts.sum() < len(fields) else -1
        lack = (exact - counts) * step - np.where((counts == 1) & (step < 0), np.inf, 0)
        counts[np.argmax(lack)] += step
    order = sorted(fields, key=lambda field: hashlib.sha256(f"{seed}:{field}".encode()).digest())
    names = np.repeat(list(fractions), counts)
    return {field: str(name) for field, name in zip(order, names, strict=True)}


def differences(found: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    """Returns a sentence for each split that differs in size from the published one."""
    return [
        f"{name}: {found.get(name, 0)} pairs, published are {count} ({found.get(name, 0) - count:+d})"
        for name, count in published.items()
        if found.get(name, 0) != count
    ]


def _few(fields: Sequence[str]) -> str:
    shown = ", ".join(fields[:12])
    return f"{shown}, … ({len(fields)} in all)" if len(fields) > 12 else shown or "none"
