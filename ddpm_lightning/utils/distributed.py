"""Images shared out among processes, and what they found brought together again.

Process ``rank`` of ``processes`` takes the images ``rank``, ``rank + processes``, … and no other: none is repeated to
make the shares even, so a process may have one image less, or none at all. The processes meet only twice, however long
their shares take: to agree on the folder of the results, and when all are done. So there is nothing to deadlock on.

The processes are those of torchrun, or are started here. The table is the same to the last digit for any number of
them: :func:`reproducible` fixes the number of threads, on which the order of summation depends.
"""

import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from ddpm_lightning.utils.errors import Interrupted, UserError
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.signals import raised

__all__ = ["Share", "among_others", "held", "in_processes", "joined", "reproducible"]

#: One process may still work when another has long finished; whoever started them notices when one dies.
PATIENCE = timedelta(days=30)
#: Seconds in which a process that is told to end clears away what it had begun.
PARTING = 20


@dataclass(frozen=True)
class Share:
    """The part of one process.

    Attributes:
        rank: Number of this process.
        processes: Number of all.
    """

    rank: int = 0
    processes: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def of(self, count: int) -> range:
        """Returns which of so many images are for this process."""
        return range(self.rank, count, self.processes)

    def agree(self, item: Any) -> Any:
        """Returns what the first process gives here; all must call it."""
        if self.processes == 1:
            return item
        items = [item]
        distributed.broadcast_object_list(items, src=0)
        return items[0]

    def gather(self, item: Any) -> list[Any]:
        """Returns the items of all processes in the first one, by rank, and nothing in the others; all must call it."""
        if self.processes == 1:
            return [item]
        items = [None] * self.processes if self.first else None
        distributed.gather_object(item, items, dst=0)
        return items or []


def among_others() -> bool:
    """Says whether torchrun, or :func:`in_processes`, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def joined() -> Iterator[Share]:
    """Joins the other processes, where there are any, for as long as the context lasts."""
    if not among_others():
        yield Share()
    elif distributed.is_initialized():
        yield Share(distributed.get_rank(), distributed.get_world_size())
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
        try:
            yield Share(distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()


@contextmanager
def held(folder: Path, force: bool, share: Share) -> Iterator[None]:
    """Holds the folder of the results in all processes: the first takes it, the others share it."""
    with ExitStack() as stack:
        token = share.agree(stack.enter_context(hold(folder, force)) if share.first else "")
        if not share.first:
            stack.enter_context(hold(folder, token=token))
        yield


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixes what rounding depends on: the number of threads, and how GPUs choose among algorithms."""
    before = torch.get_num_threads()
    choices = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = choices


def in_processes(function: Callable[..., Any], arguments: tuple, processes: int) -> Any:
    """Calls a function in so many new processes, and returns what it returned in the first of them.

    Args:
        function: A function of a module: the new processes import it.
        arguments: Its arguments.
        processes: How many.

    Raises:
        UserError: If the function raises one in any process, or a process dies.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            begun = (function, arguments, processes, folder)
            _wait(multiprocessing.spawn(_member, begun, nprocs=processes, join=False))
        except ProcessException as error:
            for path in sorted(folder.glob("error_*")):
                raise pickle.loads(path.read_bytes()) from None
            if isinstance(error, ProcessExitedException):
                raise UserError(
                    f"processes={processes}",
                    f"one of them ended early: {error}",
                    remedy="if memory was short, take fewer processes, or tile=256 for large images",
                ) from error
            raise
        return pickle.loads((folder / "result").read_bytes())


def _wait(processes: Any) -> None:
    """Waits until all processes have ended; they are told to end where this one is, and where one of them fails."""
    try:
        while not processes.join():
            pass
    except BaseException:
        for process in processes.processes:
            process.terminate()
        for process in processes.processes:
            process.join(PARTING)
            process.kill()
        raise


def _member(rank: int, function: Callable[..., Any], arguments: tuple, processes: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    try:
        distributed.init_process_group(
            "gloo", f"file://{folder / 'store'}", timeout=PATIENCE, rank=rank, world_size=processes
        )
        with raised("SIGTERM", "SIGHUP"):
            result = function(*arguments)
        if rank == 0:
            (folder / "result").write_bytes(pickle.dumps(result))
    except UserError as error:
        (folder / f"error_{rank}").write_bytes(pickle.dumps(error))
        raise SystemExit(1) from error
    except (Interrupted, KeyboardInterrupt):  # whoever started this process answers for it
        raise SystemExit(1) from None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
