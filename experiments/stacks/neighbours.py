"""Trains small regressors with and without neighbouring planes, and compares what they make of the same stacks.

Both see the same crops of simulated movies in the same order, for the same number of steps.

python -m experiments.stacks.neighbours --size small
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from ddpm_lightning.data.normalise import PairNormalisation, Percentile
from ddpm_lightning.datasets.simulated_stacks import SimulatedMovies
from ddpm_lightning.inference.stack_scale import common_scale
from ddpm_lightning.models.method import LossKey
from ddpm_lightning.models.regression import Regression
from ddpm_lightning.networks.mp_layers import force_unit_weights
from ddpm_lightning.networks.mp_unet import MPUNet
from ddpm_lightning.networks.neighbours import NeighbourStem
from ddpm_lightning.utils.plane_order import neighbour_distances
from experiments import common
from experiments.stacks.volumes import CASES, early, peaks, recorded

SIZES = {
    "small": {"photons": [40, 8], "steps": 700, "base": 8, "batch_size": 4, "crop": 48, "movies": 60},
    "full": {"photons": [40, 8], "steps": 20000, "base": 24, "batch_size": 8, "crop": 64, "movies": 600},
}
#: Planes on each side that the models see; the first one is the reference.
NEIGHBOURS: tuple[int, ...] = (0, 2)
#: Learning rate of ``regression_small``.
RATE = 0.02


def methods(size: Mapping[str, Any]) -> dict[int, Regression]:
    """Returns new models by their number of neighbours: the network of ``regression_small`` with fewer channels."""
    found = {}
    for neighbours in NEIGHBOURS:
        torch.manual_seed(0)
        network = MPUNet(
            1,
            base=size["base"],
            multipliers=(1, 2, 4),
            blocks=1,
            bottleneck_attention=False,
            dropout=0.0,
            patch=2,
        )
        found[neighbours] = Regression(network, NeighbourStem(neighbours) if neighbours else None)
    return found


def data_of(size: Mapping[str, Any]) -> SimulatedMovies:
    """Returns the movies of the training: still, drifting, diffusing, beating, and unrelated frames."""
    return SimulatedMovies(
        {"train": size["movies"], "val": 1, "test": 1},
        96,
        (5.0, 100.0),
        {"planes": 12},
        normalisation=PairNormalisation(Percentile(1.0, 99.8, per_image=True, blur=2.0, floor=1e-6)),
        crop=size["crop"],
        batch_size=size["batch_size"],
        neighbours=max(NEIGHBOURS),
        hot_pixels="keep",
        fit_images=16,
    )


def trained(work: Path, size: Mapping[str, Any]) -> tuple[dict[int, Regression], PairNormalisation]:
    """Returns trained models, from their file if there is one."""
    models, data = methods(size), data_of(size)
    data.setup("fit")
    file = work / "neighbours.pt"
    if file.is_file():
        weights = torch.load(file, weights_only=True)
        for neighbours, model in models.items():
            model.load_state_dict(weights[neighbours])
        return models, data.normalisation
    optimizers = {
        n: torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0) for n, model in models.items()
    }
    schedules = [CosineAnnealingLR(optimizer, size["steps"]) for optimizer in optimizers.values()]
    seconds, step = dict.fromkeys(NEIGHBOURS, 0.0), 0
    while step < size["steps"]:
        data.seed = step
        for batch in data.train_dataloader():
            for neighbours, model in models.items():
                began = time.process_time()
                seen = {**batch, "low": batch["low"][:, : 1 + 2 * neighbours]}
                optimizers[neighbours].zero_grad()
                model.loss(seen, LossKey.of_step(0, step)).backward()
                optimizers[neighbours].step()
                force_unit_weights(model)
                seconds[neighbours] += time.process_time() - began
            for schedule in schedules:
                schedule.step()
            step += 1
            if step % 50 == 0:
                print(f"step {step}: {seconds} CPU seconds", flush=True)
            if step == size["steps"]:
                break
    work.mkdir(parents=True, exist_ok=True)
    torch.save({neighbours: model.state_dict() for neighbours, model in models.items()}, file)
    return models, data.normalisation


@torch.inference_mode()
def restored_stack(model: Regression, low: np.ndarray, normalisation: PairNormalisation) -> np.ndarray:
    """Returns a restored stack (planes, H, W), in grey levels; all planes have the same scale."""
    scale = common_scale([normalisation.input.scale(plane) for plane in low])
    planes = torch.from_numpy(np.stack([scale.normalise(plane) for plane in low]))
    missing = torch.full_like(planes[:1], torch.nan)
    around = [
        torch.cat(
            [missing] * max(-by, 0) + [planes[max(by, 0) : len(planes) + min(by, 0)]] + [missing] * max(by, 0)
        )
        for by in neighbour_distances(model.neighbours)
    ]
    found = model.estimate(model.combined(torch.stack([planes, *around], dim=1)))
    return scale.restore(found[:, 0].numpy())


def measure(options: common.Options) -> None:
    """Trains the models, and adds a row for each stack and model."""
    rows = common.Rows(options.work / "neighbours.csv", options.size, ("case", "photons", "neighbours"))
    models, normalisation = trained(options.work, options.size)
    for neighbours, model in models.items():
        for photons in options.size["photons"]:
            for case, light in CASES.items():
                about = {"case": case, "photons": str(photons), "neighbours": str(neighbours)}
                if not rows.has(**about):
                    low, clean = recorded(light(), photons)
                    restored = restored_stack(model.eval(), low, normalisation)
                    rows.add([{**about, **scores(case, restored, clean)}])


def scores(case: str, restored: np.ndarray, clean: np.ndarray) -> dict[str, float | str]:
    """Returns error and flicker of a restored stack, and the fidelity of transients."""
    found: dict[str, float | str] = {
        "mse": float(np.square(restored - clean).mean()),
        "jumps": float(np.square(np.diff(restored, axis=0)).mean()),
        "peak": "",
        "peak_error": "",
        "early": "",
    }
    if case == "transients":
        ratio = peaks(restored) / peaks(clean)
        found |= {"peak": float(ratio.mean()), "peak_error": float(np.sqrt(np.square(ratio - 1).mean()))}
        found["early"] = float(np.sqrt(np.square(early(restored)).mean()))
    return found


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables of the README."""
    rows = common.read(folder / "results" / "neighbours.csv")
    found = {(row["case"], row["photons"], row["neighbours"]): row for row in rows}
    cases, photons = (list(dict.fromkeys(row[key] for row in rows)) for key in ("case", "photons"))
    single, several = (str(neighbours) for neighbours in NEIGHBOURS)

    def ratios(case: str, what: str) -> list[float]:
        return [
            float(found[case, number, several][what]) / float(found[case, number, single][what])
            for number in photons
        ]

    gains = [
        [
            case,
            " / ".join(f"{-10 * np.log10(ratio):+.2f}" for ratio in ratios(case, "mse")),
            " / ".join(f"{ratio:.2f}" for ratio in ratios(case, "jumps")),
        ]
        for case in cases
    ]
    traces = [
        [
            f"{neighbours} neighbours" if neighbours != "0" else "plane by plane",
            *(
                f"{float(row['peak']):.3f}, error {float(row['peak_error']):.3f}, before {float(row['early']):.3f}"
                for row in (found["transients", number, neighbours] for number in photons)
            ),
        ]
        for neighbours in (single, several)
    ]
    return {
        "neighbours": common.table(["case", "PSNR gain in dB", "flicker"], gains),
        "traces": common.table(["model", *(f"{number} photons" for number in photons)], traces),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    common.run("stacks", SIZES, measure, report)
