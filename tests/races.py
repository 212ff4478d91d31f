"""Races of real processes for one folder, some of them killed: ``python -m tests.races ROUNDS SEED FOLDER``.

All is imported once and each process is forked, so that they begin within the second. What they leave is looked at
twice: right after the race, where nothing may be recorded that is not whole, and after the same command was repeated
undisturbed, which must end with what it would have left alone.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import yaml

from ddpm_lightning.benchmark import jobs
from ddpm_lightning.checkpoints.checkpoint_file import is_intact
from ddpm_lightning.utils import lock
from ddpm_lightning.utils.atomic import fingerprint
from tests.conftest import write_pairs
from tests.datasets.miniatures import write_zebrafish
from tests.forks import begin, command_in_a_fork
from tests.trained import TINY, write_checkpoint

SMALL = [*TINY, "data=folder", "data.batch_size=4", "data.validation_crops=4", "trainer=cpu"]
SMALL += ["trainer.precision=32-true", "callbacks.images=null"]


def done(arguments, log):
    code = os.waitstatus_to_exitcode(os.waitpid(begin(arguments, log), 0)[1])
    assert code == 0, log.read_text()


def files(folder):
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


class Restore:
    """``restore`` of six files."""

    def __init__(self, here):
        self.checkpoint, self.input = write_checkpoint(here / "model.ckpt"), here / "pairs" / "all"
        self.input.mkdir(parents=True)
        for number, path in enumerate(sorted((write_pairs(here / "pairs")).rglob("low/*.tif"))[:6]):
            shutil.copy(path, self.input / f"{number}.tif")

    def command(self, folder):
        settings = ["samples=3", "sampler.steps=2", f"output={folder}", "preview=true"]
        return ["restore", f"checkpoint={self.checkpoint}", f"input={self.input}", *settings]

    def check(self, folder):
        records = []
        for path in [folder / "restore.json", *(folder / ".restore").glob("*.json")]:
            content = json.loads(path.read_text()) if path.exists() else {}
            records += content.get("files", [content] if "file" in content else [])
        for record in records:
            assert "error" not in record, record
            for name, found in record["results"].items():
                assert fingerprint(folder / name) == found, name

    def end(self, folder):
        assert len(json.loads((folder / "restore.json").read_text())["files"]) == 6
        return {name: path.read_bytes() for name, path in files(folder).items() if name.endswith(".tif")}


class Train:
    """``train`` of a new run."""

    def __init__(self, here):
        self.pairs = write_pairs(here / "pairs")

    def command(self, folder):
        steps = ["trainer.max_steps=24", "callbacks.preemption.every_minutes=0.005"]
        return ["train", *SMALL, *steps, f"data.root={self.pairs}", f"run_folder={folder}"]

    def again(self, folder):
        if (folder / "checkpoints" / "last.ckpt").is_file():
            return ["train", f"resume={folder}"]
        return self.command(folder)

    def check(self, folder):
        for path in folder.glob("checkpoints/*.ckpt"):
            assert is_intact(path), path
        for name in ("status.json", "provenance.json"):
            assert not (folder / name).exists() or json.loads((folder / name).read_text())
        assert not (folder / "config.yaml").exists() or yaml.safe_load((folder / "config.yaml").read_text())

    def end(self, folder):
        content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert content["global_step"] == 24
        return {name: weight.numpy().tobytes() for name, weight in content["state_dict"].items()}


class Resume(Train):
    """``train resume=`` of a run that was stopped."""

    def __init__(self, here):
        super().__init__(here)
        self.begun = here / "begun"
        process = begin(super().command(self.begun), here / "begun.log")
        while not (self.begun / "checkpoints" / "last.ckpt").is_file():
            time.sleep(0.05)
        os.kill(process, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 143, (here / "begun.log").read_text()

    def command(self, folder):
        if not folder.exists():
            shutil.copytree(self.begun, folder)
        return ["train", f"resume={folder}"]

    def again(self, folder):
        return self.command(folder)


class Prepare:
    """``prepare`` of an archive."""

    def __init__(self, here):
        self.archive = write_zebrafish(here / "fmd", fields=6)

    def command(self, folder):
        settings = ["data.preparation.size=32", "data.preparation.split={val:[3],test:[4]}"]
        return ["prepare", "data=zebrafish", f"data.archive={self.archive}", f"data.root={folder}", *settings]

    def check(self, folder):
        if (folder / "manifest.json").exists():
            for pair in json.loads((folder / "manifest.json").read_text())["pairs"]:
                for role, digest in pair["sha256"].items():
                    assert (
                        fingerprint(folder / pair["split"] / role / f"{pair['name']}.tif")["sha256"] == digest
                    )

    def end(self, folder):
        return {name: path.read_bytes() for name, path in files(folder).items()}


class Benchmark:
    """``benchmark`` of one method on one set."""

    def __init__(self, here):
        jobs.run_command = command_in_a_fork
        self.pairs = write_pairs(here / "pairs")

    def command(self, folder):
        cut = [f"~sets.{name}" for name in ("microtubules", "mitochondria", "synapses", "zebrafish")]
        data = ["data=folder", f"data.root={self.pairs}", "data.crop=32", "data.batch_size=4"]
        own = f"+sets.own={json.dumps([*data, 'data.validation_crops=4'])}"
        small = ["trainer=cpu", "trainer.precision=32-true", "model.network.base=8"]
        small = [f"train={json.dumps(small)}", "evaluate=['figures=0']"]
        settings = [*cut, own, *small, "only=[regression]", "budget.steps=8", "center_crop=null"]
        return [
            "benchmark",
            *settings,
            "protocols=[affine]",
            f"folder={folder}/cells",
            f"output={folder}/table",
        ]

    def check(self, folder):
        for path in folder.rglob("*.json"):
            assert path.name == lock.NAME or json.loads(path.read_text()) is not None
        for path in folder.rglob("checkpoints/*.ckpt"):
            assert is_intact(path), path

    def end(self, folder):
        assert (folder / "table" / "table.md").is_file()
        rows = (folder / "cells" / "own" / "regression" / "evaluation" / "metrics.csv").read_text()
        return {"metrics.csv": rows}


KINDS = (Restore, Train, Resume, Prepare, Benchmark)


def race(kind, folder, log, rng, killing):
    """Lets two or three processes run for a folder; returns what came of each."""
    told = [log.with_name(f"{log.name}.{number}") for number in range(rng.choice((2, 3)))]
    arguments = kind.command(folder)
    processes = []
    for path in told:
        time.sleep(rng.uniform(0, 0.4))
        processes.append(begin(arguments, path))
    if killing:
        time.sleep(rng.uniform(0.1, 4))
        victim = rng.choice(processes)
        os.killpg(victim, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    outcomes = []
    for code, path in zip(codes, told, strict=True):
        text = path.read_text()
        assert "Traceback" not in text, text
        if code == 2:
            holder = re.search(r"is in use by (?:processes that were started by )?process (\d+) on", text)
            assert (holder and int(holder[1]) in processes) or "already contains a run" in text, text
        assert code in (0, 2) or (code == -signal.SIGKILL and killing), (code, text)
        outcomes.append({0: "done", 2: "told"}.get(code, "killed"))
    assert "done" in outcomes or "killed" in outcomes, "nobody had the folder"
    return outcomes


def main_races(rounds, seed, here):
    """Runs the races, of each kind in turn; prints a line for each."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    kinds, expected = {}, {}
    for number in range(rounds):
        made = KINDS[number % len(KINDS)]
        place = here / made.__name__
        if made not in kinds:
            place.mkdir(parents=True)
            kinds[made] = made(place)
            done(kinds[made].command(place / "alone"), place / "alone.log")
            expected[made] = kinds[made].end(place / "alone")
        kind, folder, log = kinds[made], place / str(number), place / f"{number}.log"
        outcomes = race(kind, folder, log, rng, killing=number % 2 == 1)
        kind.check(folder)
        done(getattr(kind, "again", kind.command)(folder), log)
        kind.check(folder)
        assert kind.end(folder) == expected[made], "other results than those of one undisturbed process"
        left = [name for name in files(folder) if name.endswith(".partial") or Path(name).name == lock.NAME]
        assert not left, left
        print(f"{number + 1:2} {made.__name__:<9} {', '.join(outcomes)}", flush=True)


if __name__ == "__main__":
    main_races(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
