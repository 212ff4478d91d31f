"""Which process of a distributed training this is, before Lightning has started any."""

import os

__all__ = ["is_first", "started_elsewhere"]


def is_first() -> bool:
    """Returns whether this is the process of a training that prints and writes."""
    if started_elsewhere():
        return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0"


def started_elsewhere() -> bool:
    """Returns whether torchrun or SLURM started all processes, rather than this program."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
