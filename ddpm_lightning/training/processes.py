"""Which process of a distributed training this is, before Lightning has started any; and whether others have ended."""

import os

from torch import distributed

__all__ = ["is_first", "is_lost_process", "started_elsewhere"]

#: Parts of messages by which gloo and NCCL report that another process has ended.
LOST = ("by peer", "Broken pipe", "pair closure", "remote process exited", "communicator was aborted")


def is_first() -> bool:
    """Returns whether this is the process of a training that prints and writes."""
    if started_elsewhere():
        return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0"


def started_elsewhere() -> bool:
    """Returns whether torchrun or SLURM started all processes, rather than this program."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_lost_process(error: BaseException) -> bool:
    """Returns whether an error says that another process of the training has ended."""
    known = isinstance(error, RuntimeError) and any(part in str(error) for part in LOST)
    return known or isinstance(error, getattr(distributed, "DistNetworkError", ()))
