"""Distributes images over processes and devices, and gathers the results.

Process ``rank`` of ``processes`` takes the images ``rank``, ``rank + processes``, … and no others. No image is repeated
to make the shards equal, so a process may have one image fewer, or none at all. The processes communicate only at the
beginning, to agree on the folder of the results, and at the end: they cannot deadlock in between.

The processes are those of torchrun, or are started here. Results are identical to the last digit for any number of
processes: :func:`reproducible` fixes the number of threads, on which the order of summation depends.
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
from torch import distributed
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, spawn

from ddpm_lightning.utils.errors import Interrupted, UserError
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.signals import raised

__all__ = ["Shard", "is_distributed", "lock_in_all", "process_group", "reproducible", "run_in_processes"]

#: How long a process waits for the others. Their work may take days; if one dies, the process that started it notices.
PATIENCE = timedelta(days=30)
#: Seconds that a process has to clean up after it is told to end.
GRACE = 20


@dataclass(frozen=True)
class Shard:
    """The part of the work that one process does.

    Attributes:
        rank: Number of this process, from 0.
        processes: Number of processes.
    """

    rank: int = 0
    processes: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the first process, which prints and writes the results."""
        return self.rank == 0

    def of(self, count: int) -> range:
        """Returns the indices of this process, out of ``range(count)``."""
        return range(self.rank, count, self.processes)

    def agree(self, item: Any) -> Any:
        """Returns the item of the first process; all processes must call it."""
        if self.processes == 1:
            return item
        items = [item]
        distributed.broadcast_object_list(items, src=0)
        return items[0]

    def gather(self, item: Any) -> list[Any]:
        """Returns the items of all processes in the first one, by rank, and ``[]`` in the others; all must call it."""
        if self.processes == 1:
            return [item]
        items = [None] * self.processes if self.first else None
        distributed.gather_object(item, items, dst=0)
        return items or []

    def device(self, device: torch.device) -> torch.device:
        """Returns the device of this process: processes share the GPUs unless the device has a number."""
        if device.type == "cuda" and device.index is None and self.processes > 1:
            return torch.device("cuda", self.rank % torch.cuda.device_count())
        return device


def is_distributed() -> bool:
    """Says whether torchrun, or :func:`run_in_processes`, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def process_group() -> Iterator[Shard]:
    """Connects this process with the others, if there are any, for the duration of the block."""
    if not is_distributed():
        yield Shard()
    elif distributed.is_initialized():
        yield Shard(distributed.get_rank(), distributed.get_world_size())
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
        try:
            yield Shard(distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()


@contextmanager
def lock_in_all(folder: Path, force: bool, shard: Shard) -> Iterator[None]:
    """Locks the folder of the results in all processes: the first takes the lock, the others share it."""
    with ExitStack() as stack:
        token = shard.agree(stack.enter_context(hold(folder, force)) if shard.first else "")
        if not shard.first:
            stack.enter_context(hold(folder, token=token))
        yield


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixes what rounding depends on: the number of threads, and the algorithms of GPUs."""
    before = torch.get_num_threads()
    choices = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = choices


def run_in_processes(function: Callable[..., Any], arguments: tuple, processes: int) -> Any:
    """Calls a function in new processes, and returns the result of the first of them.

    Args:
        function: A module-level function, because the new processes import it.
        arguments: Its arguments.
        processes: Number of processes.

    Raises:
        UserError: If the function raises one in any process, or a process dies.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            _wait(spawn(_member, (function, arguments, processes, folder), nprocs=processes, join=False))
        except ProcessException as error:
            for path in sorted(folder.glob("error_*")):
                raise pickle.loads(path.read_bytes()) from None
            if isinstance(error, ProcessExitedException):
                raise UserError(
                    f"processes={processes}",
                    f"one of them ended early: {error}",
                    remedy="if memory ran out, use fewer processes, or tile=256 for large images",
                ) from error
            raise
        return pickle.loads((folder / "result").read_bytes())


def _wait(processes: Any) -> None:
    """Waits until all processes have ended; if this one is interrupted, or one of them fails, the others are ended."""
    try:
        while not processes.join():
            pass
    except BaseException:
        for process in processes.processes:
            process.terminate()
        for process in processes.processes:
            process.join(GRACE)
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
    except (Interrupted, KeyboardInterrupt):  # reported by the process that started this one
        raise SystemExit(1) from None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
