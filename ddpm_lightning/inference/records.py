"""``restore.json``: what was done to each file, with which model and settings; and which files a resumed job skips.

Each finished file has its own note in the hidden folder ``.restore`` until the job ends, so that several processes can
write notes without conflicts, and a job that was killed can be resumed. A file is finished if its note was written with
the same model and settings, the file is unchanged, and its results exist with unchanged content: their sizes and hashes
are computed while they are written, and compared each time.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ddpm_lightning.inference.readout_table import check_table, write_readouts
from ddpm_lightning.inference.sources import Source
from ddpm_lightning.utils.atomic import (
    Fingerprint,
    fingerprint,
    read_text,
    recorded_writes,
    remove_partials,
    write_json,
)
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import check

__all__ = ["Tracked", "Records", "Existing", "tracked_results"]

NOTES = ".restore"


@dataclass(frozen=True)
class Tracked:
    """A file whose results are being written.

    Attributes:
        source: The file.
        stamp: Its size, times and inode before it was read.
        written: Sizes and hashes of the files that were written since, by absolute path.
    """

    source: Source
    stamp: dict[str, int]
    written: Mapping[str, Fingerprint]


@contextmanager
def tracked_results(source: Source | Path) -> Iterator[Tracked]:
    """Records what is written while the results of a file are made."""
    source, stamp = Source.of(source), {}
    with suppress(OSError):  # reported when the file is read
        stamp = _stamp(source.file)
    with recorded_writes() as written:
        yield Tracked(source, stamp, written)


class Existing(NamedTuple):
    """Existing results of a file.

    Attributes:
        record: Its record if model, settings and file are unchanged; else ``None``.
        missing: Results that do not exist or were changed.
        reason: Why there is no record: ``new``, changed ``settings``, or changed ``input``; empty if there is one.
        older: Results made with other settings that this job does not replace.
    """

    record: dict[str, Any] | None
    missing: list[str]
    reason: str
    older: list[str]


class Records:
    """The records of a folder of results.

    Args:
        folder: The folder of the results.
        about: Model, settings and versions, in plain containers.
        decisive: Those of them that affect pixels: results made with others are not reused.
        lock: Folder with the lock of this job, by default that of the results.

    Raises:
        UserError: If ``restore.json`` is not one of this program, or the name of the folder of notes is taken by a
            file.
    """

    def __init__(
        self, folder: Path, about: dict[str, Any], decisive: dict[str, Any], lock: Path | None = None
    ) -> None:
        self.folder, self.about, self.lock = folder, about, lock or folder
        self.key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        self.path, self.notes = folder / "restore.json", folder / NOTES
        self._below: set[Path] = set()
        self._alone = True
        self.before: dict[str, Any] = {}
        self._known: dict[str, dict[str, Any]] = {}
        if self.notes.is_symlink() or (self.notes.exists() and not self.notes.is_dir()):
            raise _foreign(self.notes)
        self._read_again()
        check_table(folder, about.get("settings", {}).get("readout", ()))

    def begin(self, results: Mapping[Source, Sequence[str]], *, alone: bool = True) -> None:
        """Starts a job in the folder.

        Args:
            results: Names of the results of each file of the job, relative to the folder.
            alone: Whether no other shard of the job writes to the folder.

        Raises:
            UserError: If files with these names exist that no job of this program wrote.
        """
        # With notes, the files are those of a job that was stopped, perhaps between a result and its note.
        if not self.notes.is_dir():
            self._read_again()
            jobs = [self.before, *self.before.get("earlier", [])]
            # Results of the same file with other settings, such as single samples, are our own too.
            own = {record["file"] for job in jobs for record in job.get("files", []) if "results" in record}
            names = [name for source in results if source.name not in own for name in results[source]]
            if foreign := [name for name in names if os.path.exists(self.folder / name)]:
                more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
                raise UserError(
                    f"output={self.folder}",
                    f"contains {foreign[0]}{more}, which this program did not write",
                    remedy="choose another folder, or move these files away",
                )
        self._alone = alone
        paths = [self.folder / name for names in results.values() for name in names]
        # Another shard may be about to write to a folder that is empty.
        self._below = (
            {inner for path in paths for inner in path.relative_to(self.folder).parents[:-1]}
            if alone
            else set()
        )
        self.notes.mkdir(parents=True, exist_ok=True)
        # Incomplete files of jobs that were killed.
        own = [path.name for path in (*paths, *map(self._note, results))]
        remove_partials({self.folder, self.notes, *(path.parent for path in paths)}, None if alone else own)

    def close(self) -> None:
        """Removes folders that are empty because nothing was written."""
        for inner in sorted(self._below, reverse=True):
            with suppress(OSError):
                (self.folder / inner).rmdir()
        with suppress(OSError):
            self.notes.rmdir()

    def finished(self, source: Source | Path, results: Sequence[str]) -> dict[str, Any] | None:
        """Returns the record of a file if it is finished, else ``None``.

        Args:
            source: The file.
            results: Names of its results, relative to the folder.
        """
        found = self.existing(source, results)
        return None if found.missing else found.record

    def existing(self, source: Source | Path, results: Sequence[str]) -> Existing:
        """Returns the existing results of a file, from this job or an earlier one.

        Args:
            source: The file.
            results: Names of its results, relative to the folder.
        """
        record = self._last(source)
        made = record.get("results")
        if "key" not in record or made is None:
            return Existing(None, list(results), "new", [])
        if record["key"] != self.key:
            older = [name for name in made if name not in results and os.path.exists(self.folder / name)]
            return Existing(None, list(results), "settings", older)
        if not _unchanged(Source.of(source).file, record.get("input")):
            return Existing(None, list(results), "input", [])
        missing = [name for name in results if name not in made or not _holds(self.folder / name, made[name])]
        return Existing(record, missing, "", [])

    def keep(self, made: Tracked, record: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
        """Writes the note of a finished file, and returns its record.

        Args:
            made: The file, from :func:`tracked_results`.
            record: Other entries of its record.
            results: Names of the results, relative to the folder.

        Raises:
            ValueError: If a result was not written.
        """
        prints = {name: made.written.get(os.path.abspath(self.folder / name)) for name in results}
        if missing := [name for name, found in prints.items() if found is None]:
            raise ValueError(f"{missing[0]} was not written")
        source: dict[str, Any] = {**made.stamp, "sha256": None}
        with suppress(OSError):
            digest = _digest(made.source.file, *made.stamp.values())
            # If the file changed while it was read, the results cannot be attributed to it: it is restored again.
            source["sha256"] = digest if _stamp(made.source.file) == made.stamp else None
        check(self.lock)
        # Results of the same settings and file remain recorded, even if not requested this time.
        before = self.existing(made.source, results).record or {"results": {}}
        kept = {name: found for name, found in before["results"].items() if _holds(self.folder / name, found)}
        record = {**record, "input": source, "results": {**kept, **prints}, "key": self.key}
        write_json(self._note(made.source), record)
        return record

    def keep_failure(self, source: Source, record: dict[str, Any]) -> None:
        """Writes the note of a file that cannot be restored, for the other shards of the job."""
        write_json(self._note(source), {**record, "key": self.key})

    def outcomes(self, sources: Sequence[Source]) -> list[dict[str, Any]]:
        """Returns the records of those files that a shard of this job has restored, or could not restore.

        The content of results is not compared with the records.
        """
        self._read_again()
        return [record for source in sources if (record := self._last(source)).get("key") == self.key]

    def _last(self, source: Source | Path) -> dict[str, Any]:
        """Returns the last record of a file, in its note or in ``restore.json``; empty if there is none."""
        note = self._note(source)
        try:
            return self._read(note) if note.is_file() else self._known.get(source.name, {})
        except UserError:
            if note.exists():
                raise
            return self._known.get(source.name, {})  # another shard has merged the notes meanwhile

    def _read_again(self) -> None:
        """Reads ``restore.json``, which another shard may have written meanwhile."""
        self.before = self._read(self.path) if self.path.exists() else {}
        self._known = {record["file"]: record for record in self.before.get("files", []) if "key" in record}

    def write(self, records: Sequence[dict[str, Any]], **more: Any) -> None:
        """Writes ``restore.json``, and removes the notes.

        Args:
            records: A record for each file of the job.
            more: Other entries.
        """
        check(self.lock)
        now = {record["file"]: record.get("results", {}) for record in records}
        earlier = list(self.before.get("earlier", []))
        if self.before:
            earlier.append({key: value for key, value in self.before.items() if key != "earlier"})
        # Other files that were restored to this folder keep their records, and so do results of these files with other
        # settings, such as single samples.
        kept = [
            {**job, "files": [left for one in job.get("files", []) if (left := self._left(one, now))]}
            for job in earlier
        ]
        content = {"files": list(records), **self.about, **more}
        if kept := [job for job in kept if job["files"]]:
            content["earlier"] = kept
        write_readouts(records, self.folder)
        write_json(self.path, content)
        if self._alone:
            shutil.rmtree(self.notes, ignore_errors=True)
            return
        for note in self.notes.glob("*.json"):
            note.unlink(missing_ok=True)
        self.close()

    def _left(self, record: dict[str, Any], now: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
        """Returns the record of an earlier job without results that are replaced or removed; ``None`` if all are."""
        if record["file"] not in now:
            return record
        left = {
            name: found
            for name, found in record.get("results", {}).items()
            if name not in now[record["file"]] and _holds(self.folder / name, found)
        }
        return {**record, "results": left} if left else None

    def _note(self, source: Source | Path) -> Path:
        # The names of files may be as long as names can be.
        return self.notes / f"{hashlib.sha256(os.fsencode(source.name)).hexdigest()[:32]}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            content = json.loads(read_text(path))
            if all(map(_sound, [content, *content.get("earlier", [])])):
                return content
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            pass
        raise _foreign(path)


def _sound(job: dict[str, Any]) -> bool:
    """Returns whether this is a valid record of a job, or the note of a single file, which has no list of files."""
    return all(
        isinstance(record["file"], str) and isinstance(record.get("results", {}), dict)
        for record in job.get("files", [])
    )


def _foreign(path: Path) -> UserError:
    return UserError(
        path, "is not a record of this program", remedy="remove it, or choose another output=FOLDER"
    )


def _stamp(source: Path) -> dict[str, int]:
    """Returns numbers that change when a file, or a folder of a Zarr store, is changed.

    Size and time of modification can be restored by programs, the time of the last change (ctime) cannot.
    """
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    stats = [file.stat() for file in files]
    return {
        "bytes": sum(stat.st_size for stat in stats),
        "files": len(stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
        "changed_ns": max((stat.st_ctime_ns for stat in stats), default=0),
        "inode": source.stat().st_ino,
    }


@lru_cache(maxsize=8)
def _digest(source: Path, *stamp: int) -> str:
    """Returns the hash of a file with this stamp: the images of one store share it."""
    return fingerprint(source)["sha256"]


def _unchanged(source: Path, before: Any) -> bool:
    """Returns whether a file is unchanged: the same file, or one with the same content."""
    if not isinstance(before, dict) or not isinstance(before.get("sha256"), str):
        return False
    try:
        now = _stamp(source)
        if all(before.get(key) == value for key, value in now.items()):
            return True
        return now["bytes"] == before.get("bytes") and _digest(source, *now.values()) == before["sha256"]
    except OSError:
        return False


def _holds(path: Path, content: Any) -> bool:
    """Returns whether a result exists and is unchanged."""
    try:
        return isinstance(content, dict) and os.path.exists(path) and fingerprint(path) == content
    except OSError:
        return False
