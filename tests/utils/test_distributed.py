"""The same table, to the last digit, from any number of processes, samples at once and threads."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.utils.distributed import Shard, process_group, reproducible, run_in_processes
from ddpm_lightning.utils.errors import UserError
from tests.trained import write_checkpoint

SIZES = [(40, 48), (36, 61), (64, 64)]
IMAGES = 7


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of one split by the way they were made."""
    folder = tmp_path_factory.mktemp("shares")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        high = rng.gamma(2, 15, SIZES[number % 3])
        for role, image in (("low", rng.poisson(high / 3)), ("high", rng.poisson(high))):
            path = folder / "pairs" / "test" / role / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, image.astype(np.uint16))
    write_checkpoint(folder / "best.ckpt")
    script = Path(__file__).parents[1] / "evaluation" / "gloo_evaluate.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path for path in folder.iterdir() if path.name.startswith("processes")}


@pytest.mark.slow
def test_the_table_does_not_depend_on_how_it_was_made(tables):
    assert len(tables) == 6
    reference = (tables["processes1"] / "metrics.csv").read_bytes()
    for name, folder in tables.items():
        assert (folder / "metrics.csv").read_bytes() == reference, name
        assert (folder / "uncertainty.csv").read_bytes() == (
            tables["processes1"] / "uncertainty.csv"
        ).read_bytes(), name
        assert (folder / "summary.json").read_bytes() == (
            tables["processes1"] / "summary.json"
        ).read_bytes(), name


@pytest.mark.slow
def test_every_image_is_scored_once(tables):
    with (tables["processes8"] / "metrics.csv").open(newline="") as file:
        images = [row["image"] for row in csv.DictReader(file) if row["estimator"] == "average"]
    assert images == [str(number) for number in range(IMAGES)]


def test_shards_are_disjoint_and_complete():
    for processes in (1, 2, 3, 8):
        parts = [list(Shard(rank, processes).of(IMAGES)) for rank in range(processes)]
        assert sorted(sum(parts, [])) == list(range(IMAGES))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_needs_no_others():
    with process_group() as shard:
        assert shard == Shard(0, 1) and shard.gather("a") == ["a"] and shard.agree("b") == "b"


def test_threads_are_fixed_and_given_back():
    before = torch.get_num_threads()
    with reproducible(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


def test_an_error_of_a_process_is_an_error_of_the_command(tmp_path):
    with pytest.raises(UserError, match="none.ckpt: no such file"):
        run_in_processes(load, (tmp_path / "none.ckpt",), 2)
