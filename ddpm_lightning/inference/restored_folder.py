"""What a job that restored a folder has done, in words."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_lightning.inference.calibration import std_map_in_words
from ddpm_lightning.io.notes import KINDS, Note, as_records, counted, total
from ddpm_lightning.utils.errors import printable

__all__ = ["RestoredFolder"]


@dataclass(frozen=True)
class RestoredFolder:
    """What a job has done.

    Attributes:
        folder: Folder of the results.
        records: A record for each file; those of files that failed have an ``error``. Empty in all processes but the
            first.
        notes: Notes on the input: files that were left aside.
        remaining: Files that other shards of the job have not finished yet; ``restore.json`` is then not written.
    """

    folder: Path
    records: list[dict[str, Any]]
    notes: list[Note] = field(default_factory=list)
    remaining: int = 0

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Records of the files that could not be restored."""
        return [record for record in self.records if "error" in record]

    def __str__(self) -> str:
        """Lists the notes on the input, then says how many files are restored and what was done without a request.

        What is said of the standard deviation maps is on the last line if they are calibrated, else above it.
        """
        failed = len(self.failed)
        warned = sum(bool(record.get("warnings")) for record in self.records)
        notes = [
            *as_records(self.notes),
            *(note for record in self.records for note in record.get("notes", ())),
        ]
        parts = [f"{len(self.records) - failed} of {counted(len(self.records), 'file')} restored"]
        parts += [f"{failed} skipped"] if failed else []
        parts += [f"{warned} with warnings" if warned else "no warnings"]
        for kind, count in total(notes).items():
            what, done = KINDS[kind]
            parts.append(f"{counted(count, what)} {done}")
        details = f"; details in {self.folder / 'restore.json'}" if len(parts) > 2 or warned else ""
        if self.remaining:
            details = f"; {counted(self.remaining, 'file')} of other shards left"
        maps = [record["std_map"] for record in self.records if "std_map" in record]
        calibrated, ranking = (
            list(dict.fromkeys(std_map_in_words(one) for one in maps if one["calibrated"] is known))
            for known in (True, False)
        )
        above = [*(note.text for note in self.notes), *ranking]
        return printable("\n".join([*above, "; ".join([", ".join(parts), *calibrated]) + details]))
