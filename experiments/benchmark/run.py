"""Runs the benchmark, and makes the tables of the README from its tables.

python -m experiments.benchmark.run                    small networks on a CPU: every row of conf/methods/small.yaml
python -m experiments.benchmark.run --size full        the authors' settings on a GPU: conf/methods/full.yaml
python -m experiments.benchmark.run --tables           only the tables of the README, from results/

The plan of the comparison is in EVALUATION.md.
"""

import argparse
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ddpm_lightning.cli import compose
from experiments import common
from experiments.vst_bm3d import installed
from experiments.w2s_widefield.networks import TRUST, plugged_in

PROTOCOL = "affine"
#: Metrics of fidelity; 1 if higher is better, else -1.
FIDELITY = {"psnr": 1, "ms_ssim": 1}
#: Metrics in the first table, and in that of the project's README.
SHOWN, SHOWN_IN_FRONT = ("psnr", "ms_ssim", "lpips", "crps"), ("psnr", "lpips", "crps")
#: Measures of the samples as a distribution, with their ideal values.
MEASURES = {
    "crps": "CRPS (least)",
    "energy_score": "energy score (least)",
    "spread_skill": "spread–skill ratio (1)",
    "ratio": "√(b/a) (1)",
    "coverage": "coverage of 90 % intervals (0.9)",
    "rank_divergence": "divergence of the rank histogram (0)",
    "ece": "ECE (0)",
}
#: Rows that the project's README leaves out.
BEHIND = ("ddpm_pair", "pmrf, one sample", "median", "non_local_means", "total_variation", "wavelet")

DIGITS = {"psnr": 2, "crps": 4}

Rows = Sequence[Mapping[str, str]]

#: The simulated sets, and how many images they have.
SPECIMENS = ("microtubules", "mitochondria", "synapses", "zebrafish")
COUNTS, FEW = "{train:256,val:16,test:60}", "{train:4,val:1,test:1}"
#: Sides of simulated images: some authors train on crops of 256 pixels.
SIDES = {"small": 192, "full": 512}
#: NAFNet as large as the network of `regression` in each size, and narrow.
NAFNET = {
    "small": ["+model.network.width=16", "+model.network.encoder=[1,1,1,5]"],
    "full": ["+model.network.width=64", "data.crop=128", "data.batch_size=32"],
    "scaled": ["+model.network.width=8", "+model.network.encoder=[1,1]", "+model.network.decoder=[1,1]"],
}
#: BM3D with variance stabilisation: its noise is fitted to large crops, and to few: BM3D takes seconds for each.
VST_BM3D = [
    "model=gaussian",
    "~model.filter",
    "~model.strengths",
    "model._target_=experiments.benchmark.filters.VstBm3d",
    "data.crop=192",
    "data.validation_crops=4",
]
#: Narrow networks of the same code, to try all rows of ``full`` on a CPU.
_NARROW = ["model.network.base=8", "model.network.blocks=1"]
_TWO_STAGES = [*_NARROW, "model.regression.network.base=8", "model.regression.network.blocks=1"]
_NOISE2VOID = ["model.network.first_filters=8", "data.batch_size=8"]
SCALED = {
    "noise2void": _NOISE2VOID,
    "noise2void_test": _NOISE2VOID,
    "care": ["model.network.first_filters=8"],
    "unet_rcan": [
        "model.network.filters=[8,16,32]",
        "model.network.rcan_filters=8",
        "model.network.groups=1",
        "model.network.blocks=1",
    ],
    "pix2pix": ["model.generator.filters=8", "model.discriminator.filters=8"],
    "regression": _NARROW,
    "regression_two_thirds": _NARROW,
    "ddpm": _NARROW,
    "pmrf": _TWO_STAGES,
    "residual_flow": _TWO_STAGES,
    "scored": _TWO_STAGES,
}


def overrides(
    size: str, pairs: Sequence[str] = (), steps: int | None = None, scaled: bool = False
) -> list[str]:
    """Returns the overrides of ``ddpm-lightning benchmark``.

    Args:
        size: ``small`` for CPUs or ``full`` for GPUs.
        pairs: Folders of real pairs, each a set of its name.
        steps: Optimiser steps of each training, instead of seconds.
        scaled: Whether networks are narrow and images few, so that a CPU can try all rows.
    """
    side, counts = (256, FEW) if scaled else (SIDES[size], COUNTS)
    specimens = SPECIMENS[:1] if scaled else SPECIMENS
    found = [f"~sets.{name}" for name in SPECIMENS if name not in specimens]
    for name in specimens:
        data = [f"data=simulated_{name}", f"data.counts={counts}", f"data.size={side}"]
        found.append(f"sets.{name}={_listed([*data, 'data.cache=${folder}/simulated'])}")
    found += [
        f"+sets.{Path(one).name.replace('-', '_')}={_listed(['data=folder', f'data.root={one}'])}"
        for one in pairs
    ]
    nafnet = _listed([*plugged_in("nafnet.NAFNet", 1e-3), *NAFNET["scaled" if scaled else size]])
    found.append(f'+methods.nafnet={{train:{nafnet},evaluate:["{TRUST}"],budget:1,every_seed:true}}')
    if installed():
        found.append(f'+methods.vst_bm3d={{train:{_listed(VST_BM3D)},evaluate:["{TRUST}"],budget:0}}')
    else:
        print("no row of BM3D: install the extra `benchmarks` (non-commercial licence)", flush=True)
    found += [f"methods={size}", "seeds=[0]" if scaled else "seeds=[0,1,2]"]
    found += [f"budget.steps={steps}"] if steps is not None else []
    if size == "full":
        found.append(f"train={_listed(['trainer=cpu' if scaled else 'trainer=gpu'])}")
        found.append(f"center_crop={192 if scaled else 'null'}")
    if scaled:
        found.append(f"evaluate={_listed(['samples=2', 'figures=0'])}")
        methods = compose.compose("benchmark", [f"methods={size}"]).methods
        found += [
            f"methods.{name}.train={_listed([*methods[name].train, *changes])}"
            for name, changes in SCALED.items()
        ]
    return found


def _listed(texts: Sequence[str]) -> str:
    return "[" + ",".join(f'"{text}"' for text in texts) + "]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not finished, and updates the README where the results are those of this folder."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark.run", description=__doc__)
    parser.add_argument("--size", choices=SIDES, default="small", help="small for CPUs, full for GPUs")
    parser.add_argument("--pairs", nargs="*", default=[], metavar="DIR", help="folders of real pairs")
    parser.add_argument("--steps", type=int, help="optimiser steps of each training, instead of seconds")
    parser.add_argument(
        "--scaled", action="store_true", help="narrow networks and few images, to try all rows"
    )
    parser.add_argument("--folder", type=Path, help="folder of trainings; by default runs/benchmark_SIZE")
    parser.add_argument("--output", type=Path, help="folder of tables; by default results, or results_full")
    parser.add_argument("--tables", action="store_true", help="only update the tables of the README")
    chosen = parser.parse_args(arguments)
    own = here / ("results" if chosen.size == "small" else f"results_{chosen.size}")
    folder, output = chosen.folder or Path(f"runs/benchmark_{chosen.size}"), chosen.output or own
    if not chosen.tables:
        given = overrides(chosen.size, chosen.pairs, chosen.steps, chosen.scaled)
        try:
            common.command("benchmark", *given, f"folder={folder}", f"output={output}")
        except subprocess.CalledProcessError as error:
            parser.exit(error.returncode, "error: the command above failed; what is finished is kept\n")
    if output == here / "results":
        common.fill(here / "README.md", report(here))
        common.fill(here.parents[1] / "README.md", front(here))


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables of the README by name, from the tables in ``folder/results``."""
    numbers, tests, uncertainty = (
        common.read(folder / "results" / f"{name}.csv") for name in ("table", "differences", "uncertainty")
    )
    gains = folder / "results" / "tta.csv"
    augmented = _of_page(numbers, "yes")
    numbers, tests = _of_page(numbers), _of_page(tests)
    uncertainty = [row for row in uncertainty if row.get("tta", "no") == "no"]
    sets = list(dict.fromkeys(row["set"] for row in numbers))
    return {
        "overview": _overview(numbers, sets),
        "tta": _augmentation(augmented, common.read(gains) if gains.is_file() else [], sets),
        "fidelity": _fidelity(tests, sets),
        "looks": _looks(numbers, tests, sets),
        "std": _calibration(uncertainty, sets),
    }


def _of_page(rows: Rows, tta: str = "no") -> Rows:
    """Returns the rows of the main protocol, with test-time augmentation (``yes``) or without."""
    return [row for row in rows if row["protocol"] == PROTOCOL and row.get("tta", "no") == tta]


def front(folder: Path) -> Mapping[str, str]:
    """Returns the table of the project's README, from the tables in ``folder/results``."""
    numbers = _of_page(common.read(folder / "results" / "table.csv"))
    chosen = [row for row in numbers if not row["row"].startswith(BEHIND)]
    sets = list(dict.fromkeys(row["set"] for row in numbers))
    uncertainty = common.read(folder / "results" / "uncertainty.csv")
    uncertainty = [row for row in uncertainty if row.get("tta", "no") == "no"]
    return {"benchmark": _overview(chosen, sets, SHOWN_IN_FRONT), "coverage": _coverage(uncertainty, sets)}


def _coverage(uncertainty: Rows, sets: Sequence[str]) -> str:
    """Percentage of the pixels whose clean value is in the 90 % interval of the samples."""
    known = {(row["row"], row["set"]): float(row["coverage"]) for row in uncertainty}
    names = list(dict.fromkeys(row["row"] for row in uncertainty))
    lines = [[name, *(f"{known[name, one]:.0%}" for one in sets)] for name in names]
    return common.table(["in the 90 % interval", *sets], lines)


def _overview(numbers: Rows, sets: Sequence[str], shown: Sequence[str] = SHOWN) -> str:
    """Medians of each row on each set, its rank over all sets, and what it costs."""
    known = {(row["row"], row["set"], row["metric"]): row for row in numbers}
    shown = [metric for metric in shown if any(row["metric"] == metric for row in numbers)]
    names = list(dict.fromkeys(row["row"] for row in numbers))
    lines = []
    for name in names:
        here = [known[name, one, "psnr"] for one in sets if (name, one, "psnr") in known]
        rank = sum(float(row["rank"]) for row in here) / len(here)
        cells = [
            " / ".join(_short(known.get((name, one, metric)), metric) for metric in shown) for one in sets
        ]
        lines.append([name, *cells, f"{rank:.1f}", here[0]["nfe"]])
    lines.sort(key=lambda line: float(line[-2]))
    return common.table(["", *sets, "mean rank", "network evaluations"], lines)


def _augmentation(numbers: Rows, gains: Rows, sets: Sequence[str]) -> str:
    """The overview with test-time augmentation, and what it adds to the PSNR of each row."""
    if not numbers:
        return "These results have none."
    added = {
        (row["row"], row["set"]): _added(row)
        for row in gains
        if row["protocol"] == PROTOCOL and row["metric"] == "psnr"
    }
    names = list(dict.fromkeys(row["row"] for row in gains))
    lines = [[name, *(added.get((name, one), "–") for one in sets)] for name in names]
    return (
        _overview(numbers, sets) + "\n\nWhat it adds to the PSNR (dB):\n\n" + common.table(["", *sets], lines)
    )


def _added(row: Mapping[str, str]) -> str:
    between = f" ({float(row['low']):+.2f} to {float(row['high']):+.2f})" if row["low"] else ""
    return f"{float(row['difference']):+.2f}{between}"


def _short(row: Mapping[str, str] | None, metric: str) -> str:
    return "–" if row is None else f"{float(row['median']):.{DIGITS.get(metric, 3)}f}"


def _fidelity(tests: Rows, sets: Sequence[str]) -> str:
    """What is significantly better than the average of pmrf or equivalent to it, and how far that of ddpm is below."""
    lines = []
    for one in sets:
        rows = [
            row for row in tests if row["set"] == one and row["metric"] in FIDELITY and not _is_looks(row)
        ]
        better = [
            f"{row['row']} ({row['metric']} {float(row['difference']):+.3g})"
            for row in rows
            if row["significant"] == "yes" and float(row["difference"]) * FIDELITY[row["metric"]] > 0
        ]
        equal = [row["row"] for row in rows if row["metric"] == "psnr" and row.get("equivalent") == "yes"]
        (ddpm,) = [row for row in rows if row["row"].startswith("ddpm, average") and row["metric"] == "psnr"]
        lines.append([one, ", ".join(better) or "none", ", ".join(equal) or "none", _gain(ddpm)])
    heads = ["significantly better than the average of pmrf", "equivalent in PSNR, within 0.1 dB"]
    return common.table(["set", *heads, "pmrf above ddpm, averages (dB)"], lines)


def _is_looks(row: Mapping[str, str]) -> bool:
    return row["reference"].startswith("pmrf_realistic")


def _gain(row: Mapping[str, str]) -> str:
    """The gain of the reference over a row, with its interval, and whether it is significant."""
    ends = sorted(-float(row[end]) for end in ("low", "high")) if row["low"] else None
    between = f" ({ends[0]:+.2f} to {ends[1]:+.2f})" if ends else ""
    return f"{-float(row['difference']):+.2f}{between}{'' if row['significant'] == 'yes' else ', not significant'}"


def _looks(numbers: Rows, tests: Rows, sets: Sequence[str]) -> str:
    """Which rows have a lower LPIPS than one sample of pmrf, and which do not differ significantly from it."""
    lines = []
    for one in sets:
        lpips = {
            row["row"]: float(row["median"])
            for row in numbers
            if row["set"] == one and row["metric"] == "lpips"
        }
        if not lpips:
            continue
        rows = [row for row in tests if row["set"] == one and row["metric"] == "lpips" and _is_looks(row)]
        better = [r["row"] for r in rows if r["significant"] == "yes" and float(r["difference"]) < 0]
        tied = [r["row"] for r in rows if r["significant"] == "no"]
        least = min(lpips, key=lpips.__getitem__)
        own = next(value for name, value in lpips.items() if name.startswith("pmrf_realistic"))
        lines.append(
            [
                one,
                f"{own:.3f}",
                f"{least} ({lpips[least]:.3f})",
                ", ".join(better) or "none",
                ", ".join(tied) or "none",
            ]
        )
    return common.table(
        ["set", "LPIPS of a sample of pmrf", "least median", "significantly better", "tied"], lines
    )


def _calibration(uncertainty: Rows, sets: Sequence[str]) -> str:
    """The measures of each method that samples, on each set; measures that the results lack are left out."""
    shown = [name for name in MEASURES if any(row.get(name) for row in uncertainty)]
    lines = [
        [row["set"], row["row"], *(f"{float(row[name]):.3g}" if row[name] else "–" for name in shown)]
        for one in sets
        for row in uncertainty
        if row["set"] == one
    ]
    return common.table(["set", "", *(MEASURES[name] for name in shown)], lines)


if __name__ == "__main__":
    main()
