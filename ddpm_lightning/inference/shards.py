"""Jobs that are divided into shards without a coordinator, such as the tasks of a job array on a cluster.

Shard i of n restores the files i, i + n, … of the job. Each file is written atomically and noted when it is finished,
so a shard can be stopped at any time and started again, on any machine. Shards do not wait for each other: the one that
finds all files of the job finished writes ``restore.json``. Each shard has a lock of its own; a job that is not divided
and the shards of another job exclude each other.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ddpm_lightning.utils.atomic import remove_partials
from ddpm_lightning.utils.distributed import Shard, lock_in_all
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import holder

__all__ = ["FileShard", "locked"]

Item = TypeVar("Item")
#: Folder of the locks in that of the results.
LOCKS = ".restore_shards"


@dataclass(frozen=True)
class FileShard:
    """The part of the files of a job that one command restores.

    Attributes:
        number: Number of the shard, from 0.
        count: Number of shards.
    """

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> "FileShard":
        """Returns the shard of a text such as ``0/8``.

        Raises:
            UserError: If the text is none.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if number >= count:
            raise UserError(
                "shard", f"is {text}", allowed="0/N to N-1/N, such as shard=0/8 for the first of 8"
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of_all(self, items: list[Item]) -> list[Item]:
        """Returns the items of this shard."""
        return items[self.number :: self.count]

    def place(self, folder: Path) -> Path:
        """Returns the folder of the lock of this shard."""
        return folder / LOCKS / f"{self.number}_of_{self.count}"


@contextmanager
def locked(folder: Path, mine: FileShard | None, force: bool, processes: Shard) -> Iterator[None]:
    """Locks the folder of the results, or only a shard of the job in it, in all processes.

    Args:
        folder: The folder of the results.
        mine: The shard, or ``None`` for a job that is not divided.
        force: Whether to take over the folder from a job that cannot be checked.
        processes: This process among those of the job.

    Raises:
        UserError: If another job uses the folder.
    """
    with ExitStack() as stack:
        if mine is None:
            stack.enter_context(lock_in_all(folder, force, processes))
            others = folder.glob(f"{LOCKS}/*")
        else:
            place, others = mine.place(folder), [folder]
            stack.callback(_remove_if_empty, folder / LOCKS)
            stack.callback(_remove_if_empty, place)
            # Whoever is killed while taking the lock leaves the draft of it.
            stack.callback(remove_partials, [place])
            # A cluster starts a task again on another machine only after it has ended; if it has not, it stops when it
            # finds its lock taken, and has written the same bytes.
            owner = holder(place)
            elsewhere = owner is not None and owner.state == "elsewhere"
            stack.enter_context(lock_in_all(place, force or elsewhere, processes))
        for place in others if processes.first and not force else ():
            owner = holder(place)
            if owner is not None and owner.state != "dead":
                raise UserError(
                    folder,
                    f"is in use by {owner}",
                    remedy="wait until it has ended, or choose another folder; if it was killed, repeat the command"
                    " with force=true",
                )
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
