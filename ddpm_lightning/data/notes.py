"""What was done to a file without being asked for: what was left aside, guessed, replaced, clipped or rounded."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["KINDS", "Kind", "Note", "as_records", "total"]

Kind = Literal["left_aside", "guessed", "replaced", "clipped", "rounded"]
#: Kinds of notes, and how they are named on the screen.
KINDS: dict[Kind, str] = {
    "left_aside": "left aside",
    "guessed": "guessed",
    "replaced": "replaced",
    "clipped": "clipped",
    "rounded": "rounded",
}


@dataclass(frozen=True)
class Note:
    """One thing that was done to a file, or not done, without being asked for.

    Attributes:
        kind: ``left_aside`` (pages, series, metadata), ``guessed`` (axes, pixel size, bits),
            ``replaced`` (defective pixels), ``clipped`` (pixels outside of the range of the output type) or
            ``rounded`` (planes of which a type of integers keeps few grey levels).
        count: How many pages, tags, pixels or planes.
        text: A sentence in plain English, without the name of the file and without a full stop.
    """

    kind: Kind
    count: int
    text: str


def as_records(notes: Iterable[Note]) -> list[dict[str, Any]]:
    """Returns notes as plain containers, equal ones once."""
    return [asdict(note) for note in dict.fromkeys(notes)]


def total(records: Iterable[dict[str, Any]]) -> dict[Kind, int]:
    """Returns the sum of the counts of each kind that occurs, over the records of notes."""
    sums = dict.fromkeys(KINDS, 0)
    for record in records:
        sums[record["kind"]] += record["count"]
    return {kind: count for kind, count in sums.items() if count}
