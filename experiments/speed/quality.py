"""What presets lose compared with the paper's 200 x 15 network evaluations, on the centres of test images.

    python experiments/speed/quality.py CKPT --data DIR --images 24 --crop 128 --rows real.jsonl
    python experiments/speed/quality.py CKPT --data microtubules synapses --images 8 --rows simulated.jsonl

Each image and sampling scheme adds a line to the file of rows, so an interrupted run resumes. Networks compute in
bfloat16 if the processor supports it. Scores are those of the protocol `affine`. The standard deviation is assessed on
independent samples (of antithetic pairs, every second one; extra ones are added up to eight).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ddpm_lightning.checkpoints.load import load
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.datasets.folder import FolderData
from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.evaluation.statistics import difference
from ddpm_lightning.inference.bfloat16 import is_native
from ddpm_lightning.metrics.averaging_law import averaging_law
from ddpm_lightning.metrics.collection import perceptual_metric, score
from ddpm_lightning.metrics.protocol import affine_fit
from ddpm_lightning.models.presets import Preset
from ddpm_lightning.models.sampling import samples_of
from ddpm_lightning.networks.folding import fold
from ddpm_lightning.simulation.specimens import SPECIMENS
from ddpm_lightning.utils.instantiate import build

#: Smallest number of samples from which the standard deviation is assessed.
SCORED = 8


def crops_of(data: str, split: str, count: int, side: int) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Returns name, field, low and high image of the centres of random images; more images include those of fewer.

    Args:
        data: Folder of pairs, or name of a simulated set, with images that no model was trained on.
        split: Name of the split.
        count: Number of images.
        side: Side of the centres in pixels.
    """
    if data in SPECIMENS:
        pairs: PairSource = SimulatedPairs(data, split, count, 256, seed=1000)
    else:
        pairs = FolderData(data, normalisation=None).pairs(split)
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]

    def centre(image: np.ndarray) -> np.ndarray:
        y, x = ((length - side) // 2 for length in image.shape)
        return image[y : y + side, x : x + side]

    found = (pairs[int(k)] for k in chosen)
    place = Path(data).name
    return [(f"{place} {p.name}", f"{place} {p.field}", centre(p.low), centre(p.high)) for p in found]


class TrainedSampler:
    """Samples with a trained model and any sampler."""

    def __init__(self, checkpoint: str) -> None:
        trained = load(checkpoint)
        self.method, self.normalisation = trained.method, trained.normalisation
        self.most_noise = trained.most_noise
        dtype = torch.bfloat16 if is_native(torch.device("cpu")) else None
        self.folded = {self.method.network: fold(self.method.network, dtype)}

    def samples(
        self, low: np.ndarray, name: str, sampler: dict, tta: bool, numbers: list[int]
    ) -> torch.Tensor:
        """Returns samples with shape (N, H, W), in intensities."""
        self.method.sampler = build(dict(sampler))
        self.method.sampler.check(self.method.schedule, self.method.objective)
        scale = self.normalisation.input.scale(low, self.most_noise)
        normalised = torch.from_numpy(scale.normalise(low))[None, None]
        output = self.normalisation.output_scale(scale)
        found = samples_of(
            self.method,
            normalised,
            name,
            numbers,
            apply=lambda network, *inputs: self.folded[network](*inputs),
            batch=5,
            tta=tta,
        )
        return torch.stack([torch.from_numpy(output.restore(sample[0, 0].numpy())) for sample in found])


def row_of(
    model: TrainedSampler, name: str, low: np.ndarray, high: np.ndarray, scheme: str, lpips: object
) -> dict:
    """Returns the numbers of one image and one sampling scheme."""
    sampler, count, tta = sampler_of(scheme)
    samples = model.samples(low, name, sampler, tta, list(range(count)))
    target = torch.from_numpy(high.astype(np.float32))[None, None]
    row = {"nfe_per_sample": model.method.evaluations, "samples": count}
    for estimator, image in (("average", samples.mean(0)), ("single", samples[0])):
        values = score(image[None, None].float(), target, "affine", lpips=lpips).values
        row |= {f"{estimator}_{key}": values[key] for key in ("psnr", "ms_ssim", "lpips") if key in values}
    independent = samples[::2] if sampler["antithetic"] else samples
    if len(independent) < SCORED:
        plain = {**sampler, "antithetic": False}
        extra = list(range(1000, 1000 + SCORED - len(independent)))
        independent = torch.cat([independent, model.samples(low, name, plain, tta, extra)])
    gain, offset = affine_fit(independent.mean(0), target[0, 0])
    law = averaging_law(samples=(gain * independent + offset)[:, None], target=target[0])
    return row | {"a": law.a, "b": law.b, "range": float(high.max()) - float(high.min())}


def scheme_of(preset: Preset) -> str:
    """Returns a sampling scheme as text: sampler, steps (or level), samples, pairs, tta."""
    sampler = preset.sampler
    steps = sampler.get("at", sampler.get("steps")) or "all"
    kind = sampler["_target_"].rpartition(".")[2]
    marks = (":pairs" if sampler.get("antithetic") else "") + (":tta" if preset.tta else "")
    return f"{kind}:{steps}:{preset.samples}{marks}"


def sampler_of(scheme: str) -> tuple[dict, int, bool]:
    """Returns sampler, number of samples, and whether test-time augmentation is used, from such a text."""
    kind, steps, samples, *marks = scheme.split(":")
    module = "dpm_solver" if kind == "DPMSolver" else "samplers"
    sampler: dict = {"_target_": f"ddpm_lightning.diffusion.{module}.{kind}", "antithetic": "pairs" in marks}
    key, value = (
        ("at", float(steps)) if kind == "OneStep" else ("steps", None if steps == "all" else int(steps))
    )
    return {**sampler, key: value}, int(samples), "tta" in marks


def std_ratio(rows: list[dict]) -> float:
    """Returns sqrt(b / a) over all images, each in units of its range."""
    a, b = (sum(row[key] / row["range"] ** 2 for row in rows) for key in "ab")
    return float(np.sqrt(b / a))


def summary_of(rows: list[dict], schemes: dict[str, str]) -> dict[str, dict]:
    """Compares each sampling scheme with ``paper`` on the images that both have.

    Args:
        rows: Rows of images.
        schemes: Sampling schemes by name.
    """
    paper = {row["image"]: row for row in rows if row["way"] == schemes["paper"]}
    found = {}
    for name, scheme in schemes.items():
        both = [(row, paper[row["image"]]) for row in rows if row["way"] == scheme and row["image"] in paper]
        if not both:
            continue
        mine, theirs = zip(*both, strict=True)
        fields = [row["field"] for row in mine]
        entry = {
            "evaluations": mine[0]["nfe_per_sample"] * mine[0]["samples"],
            "samples": mine[0]["samples"],
            "images": len(mine),
            "spread_ratio": std_ratio(mine),
            "spread_ratio_paper": std_ratio(theirs),
        }
        for metric in ("average_psnr", "average_ms_ssim", "average_lpips", "single_lpips", "single_psnr"):
            if metric in mine[0]:
                one, other = ([row[metric] for row in side] for side in (mine, theirs))
                compared = difference(one, other, fields)
                key = metric.removeprefix("average_")
                entry |= {key: float(np.mean(one)), f"{key}_difference": compared.mean}
                entry[f"{key}_interval"] = compared.interval
        rng = np.random.default_rng(0)
        names = list(dict.fromkeys(fields))
        resampled = []
        for _ in range(1000):
            chosen = [
                k for name in rng.choice(names, len(names)) for k in np.flatnonzero(np.array(fields) == name)
            ]
            resampled.append(std_ratio([mine[k] for k in chosen]) - std_ratio([theirs[k] for k in chosen]))
        entry["spread_difference_interval"] = np.quantile(resampled, (0.025, 0.975)).tolist()
        found[name] = {"way": scheme, **entry}
    return found


def main() -> None:
    """Runs what is missing, and prints the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument(
        "--data", nargs="+", required=True, help="folders of pairs, or names of simulated sets"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=24, help="of each set")
    parser.add_argument("--crop", type=int, default=128, help="side of the centre that is restored")
    parser.add_argument(
        "--rows", type=Path, required=True, help="file of rows, one for each image and scheme"
    )
    parser.add_argument("--lpips", type=Path, help="file of the AlexNet backbone")
    parser.add_argument(
        "--also", nargs="*", default=[], help="further schemes: SAMPLER:STEPS:SAMPLES[:pairs][:tta]"
    )
    parser.add_argument("--about", default="", help="what the model is, for the table")
    parser.add_argument(
        "--output", type=Path, help="file of the summary: presets/NAME.json beside this script"
    )
    parser.add_argument(
        "--summary", action="store_true", help="run nothing, only summarise the existing rows"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = TrainedSampler(arguments.checkpoint)
    presets = {name: scheme_of(preset) for name, preset in model.method.presets.items()}
    schemes = presets | {scheme: scheme for scheme in arguments.also}
    lpips = perceptual_metric(arguments.lpips)
    done = []
    if arguments.rows.exists():
        done = [json.loads(line) for line in arguments.rows.read_text().splitlines()]
    finished = {(row["way"], row["image"]) for row in done}
    sets = arguments.data if not arguments.summary else []
    crops = [c for data in sets for c in crops_of(data, arguments.split, arguments.images, arguments.crop)]
    for name, field, low, high in crops:
        for scheme in schemes.values():
            if (scheme, name) in finished:
                continue
            row = {"way": scheme, "image": name, "field": field}
            row |= row_of(model, name, low, high, scheme, lpips)
            done.append(row)
            with arguments.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(name, flush=True)
    found = summary_of(done, schemes)
    numbers = (
        "evaluations",
        "psnr_difference",
        "ms_ssim_difference",
        "spread_ratio",
        "spread_ratio_paper",
        "images",
    )
    arithmetic = "bfloat16" if is_native(torch.device("cpu")) else "float32"
    content = {
        "about": f"{arguments.about} Centres of {arguments.crop}² pixels of images of the split `{arguments.split}`, "
        f"chosen at random; {arithmetic}; protocol `affine`; averages of the samples, less those of `paper`, with 95 % "
        "intervals from a bootstrap over fields of view. Std ratio: sqrt(b / a) of MSE(N) = a + b / N; ideally 1.",
        "presets": {
            name: {key: found[name].get(key) for key in numbers} for name in presets if name in found
        },
        "all": found,
    }
    text = json.dumps(content, indent=1)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
