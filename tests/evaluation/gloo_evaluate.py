"""Run as a script: scores a folder of pairs in several ways, each in so many gloo processes."""

import multiprocessing
import os
import sys

import torch
from torch import distributed

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.evaluate import evaluate_configured

#: Processes, samples at once, threads that the caller left.
WAYS = {
    "processes1": (1, 1, 1),
    "processes1_batch4": (1, 4, 1),
    "processes1_threads2": (1, 1, 2),
    "processes2": (2, 1, 1),
    "processes3_batch4": (3, 4, 1),
    "processes8": (8, 1, 1),
}


def score(rank: int, name: str, folder: str) -> None:
    processes, batch, threads = WAYS[name]
    torch.set_num_threads(threads)
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        store = f"file://{folder}/store_{name}"
        distributed.init_process_group("gloo", store, rank=rank, world_size=processes)
    overrides = [
        f"checkpoint={folder}/best.ckpt",
        "data=folder",
        f"data.root={folder}/pairs",
        f"output={folder}/{name}",
        "samples=4",
        "figures=0",
        f"batch={batch}",
    ]
    evaluate_configured(compose.compose("evaluate", overrides))
    if processes > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ["DDPM_LIGHTNING_CACHE"] = sys.argv[1]  # no backbone there: LPIPS would take most of the time
    fork = multiprocessing.get_context("fork")
    for way in WAYS:
        group = [fork.Process(target=score, args=(rank, way, sys.argv[1])) for rank in range(WAYS[way][0])]
        for process in group:
            process.start()
        for process in group:
            process.join()
        if any(process.exitcode for process in group):
            sys.exit(f"{way}: {[process.exitcode for process in group]}")
