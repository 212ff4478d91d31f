"""``readouts.csv``: a row for each number that was measured in a plane of a file."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.errors import UserError

__all__ = ["TABLE", "check_table", "table_of", "write_readouts"]

TABLE = "readouts.csv"


def check_table(folder: Path, readouts: Sequence[Any]) -> None:
    """Checks before the work begins that the table would not replace a file of another program.

    Args:
        folder: Folder of the results.
        readouts: What is measured.

    Raises:
        UserError: If it would.
    """
    if readouts and (folder / TABLE).exists() and not (folder / "restore.json").is_file():
        raise UserError(
            f"output={folder}",
            f"contains {TABLE}, which this program did not write",
            remedy="choose another folder, or move this file away",
        )


def write_readouts(records: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes the table of a job, if anything was measured.

    Args:
        records: A record for each file.
        folder: Folder of the results.
    """
    rows = [{"file": record["file"], **row} for record in records for row in record.get("readouts", ())]
    if rows:
        write_text(folder / TABLE, table_of(rows))


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows with the same columns as CSV; ``None`` is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()
