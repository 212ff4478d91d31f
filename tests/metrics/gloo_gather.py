"""Run as a script: three gloo processes accumulate unequal shares and save what each computes."""

import multiprocessing
import sys

import torch

from ddpm_lightning.metrics.torchmetrics_classes import training_metrics

PROCESSES = 3


def accumulate(rank: int, folder: str) -> None:
    """Takes the batches of one rank: the first has two, the second one, the last none at all."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    metrics = training_metrics()
    for index, pair in enumerate(torch.load(f"{folder}/pairs.pt")):
        if index // 2 == rank:
            for metric in metrics.values():
                metric.update(**pair)
    torch.save({name: metric.compute() for name, metric in metrics.items()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=accumulate, args=(rank, sys.argv[1])) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
