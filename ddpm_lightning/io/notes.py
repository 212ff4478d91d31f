"""Notes on what was done to a file without being requested: ignored, guessed, replaced, clipped or rounded."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["KINDS", "Kind", "Note", "as_records", "counted", "total"]

Kind = Literal["left_aside", "guessed", "replaced", "clipped", "rounded"]
#: Kinds of notes: what is counted, and what was done to it, as printed in summaries.
KINDS: dict[Kind, tuple[str, str]] = {
    "left_aside": ("item", "ignored"),
    "guessed": ("item", "guessed"),
    "replaced": ("pixel", "replaced"),
    "clipped": ("pixel", "clipped"),
    "rounded": ("plane", "rounded"),
}


@dataclass(frozen=True)
class Note:
    """One thing that was done to a file, or left out, without being requested.

    Attributes:
        kind: ``left_aside`` (ignored pages, series, metadata), ``guessed`` (axes, pixel size, bits),
            ``replaced`` (defective pixels), ``clipped`` (pixels outside the range of the output data type) or
            ``rounded`` (planes that keep few grey levels in the data type written).
        count: Number of pages, tags, pixels or planes.
        text: A sentence in plain English, without the name of the file and without a full stop.
    """

    kind: Kind
    count: int
    text: str


def as_records(notes: Iterable[Note]) -> list[dict[str, Any]]:
    """Returns notes as plain containers, without duplicates."""
    return [asdict(note) for note in dict.fromkeys(notes)]


def counted(count: int, one: str, many: str = "") -> str:
    """Returns a number with its noun: ``1 file``, ``3 files``.

    Args:
        count: The number.
        one: The noun in the singular, with its verb if there is one.
        many: The plural; by default the singular with an ``s``.
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def total(records: Iterable[dict[str, Any]]) -> dict[Kind, int]:
    """Returns the total count of each kind that occurs in the records of notes."""
    sums = dict.fromkeys(KINDS, 0)
    for record in records:
        sums[record["kind"]] += record["count"]
    return {kind: count for kind, count in sums.items() if count}
