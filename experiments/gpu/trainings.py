"""Trainings for the time that is left: the shipped model is trained further, then the published one from scratch.

Both are ordinary commands with a time limit, so they resume from their run folders if this part is repeated. What comes
back is the validation loss, the speed, scores of simulated test images, and the model in half precision if it is small.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.gpu.results import Results, opened

#: Largest model in bytes that is kept beside the results.
LARGEST = 16 * 2**20
#: Seconds for evaluating and exporting a model after its training.
AFTER = 25.0
RUNS = {
    "default, trained further": [
        "experiment=default_model", "finetune=default", "data.counts={train: 256, val: 16, test: 16}",
        "data.batch_size=64", "data.num_workers=8", "trainer.max_steps=20000",
    ],
    "ddpm, simulated microtubules": [
        "model=ddpm", "data=simulated_microtubules", "data.counts={train: 64, val: 8, test: 8}",
        "data.batch_size=32", "data.num_workers=8", "trainer.max_steps=4000",
    ],
}  # fmt: skip
TINY = {
    "ddpm, simulated microtubules": [
        "model=ddpm_small", "model.network.base=8", "model.network.multipliers=[1,2]",
        "model.network.channels_per_head=8", "data=simulated_microtubules",
        "data.counts={train: 2, val: 1, test: 1}", "data.size=64", "data.crop=32", "data.batch_size=4",
        "data.validation_crops=2", "trainer.max_steps=4",
    ],
}  # fmt: skip


def call(*arguments: str) -> None:
    """Runs a command of the package.

    Raises:
        RuntimeError: If it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_lightning", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ddpm-lightning {arguments[0]}: {done.stderr.strip()[-300:] or done.returncode}")


def train(results: Results, name: str, overrides: list[str], seconds: float) -> dict[str, Any]:
    """Trains, evaluates and exports a model."""
    short = name.partition(",")[0]
    run = results.path.parent / "runs" / short
    limit = f"trainer.max_time=00:00:{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
    if (run / "checkpoints" / "last.ckpt").is_file():
        call("train", f"resume={run}", limit)
    else:
        trainer = "gpu" if results.device.type == "cuda" else "cpu"
        call("train", *overrides, f"trainer={trainer}", "callbacks.images=null", limit, f"run_folder={run}")
    losses = _losses(run)
    best = run / "checkpoints" / "best.ckpt"
    row: dict[str, Any] = {"steps": losses["step"], "val_loss": losses["val/loss"]}
    test = run / "test"
    call(
        "evaluate", f"checkpoint={best}", f"device={results.device.type}", f"output={test}", "limit=8",
        *(["samples=2", "sampler.steps=2"] if results.tiny else []),
    )  # fmt: skip
    summary = json.loads((test / "summary.json").read_text("utf-8"))["estimators"]
    row["psnr"] = {
        name: round(scores["psnr"]["mean"], 3) for name, scores in summary.items() if scores.get("psnr")
    }
    exported = results.path.parent / f"{short}.safetensors"
    call(
        "export",
        f"checkpoint={best}",
        f"output={exported}",
        "half=true",
        f"name={short}",
        "authors=[the authors of ddpm_lightning]",
    )
    row["megabytes"] = round(exported.stat().st_size / 2**20, 2)
    if exported.stat().st_size > LARGEST or results.tiny:
        exported.unlink()
    return row


def _losses(run: Path) -> dict[str, Any]:
    """Returns the last step and the last validation loss."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    return {"step": int(rows[-1]["step"]), "val/loss": round(float(rows[-1]["val/loss"]), 5)}


def measure(results: Results) -> None:
    """Trains the models, as long as there is time."""
    runs = TINY if results.tiny else RUNS
    for number, (name, overrides) in enumerate(runs.items()):
        seconds = max(results.seconds_left / (len(runs) - number) - AFTER, 10)
        results.measure(
            name,
            lambda n=name, o=overrides, s=seconds: train(results, n, o, s),
            needs=0 if results.tiny else 60,
        )
    results.write(complete=True)


if __name__ == "__main__":
    measure(opened())
