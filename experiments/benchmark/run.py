"""Makes the tables of the README from those of the benchmark.

python -m experiments.benchmark.run     after ``ddpm-lightning benchmark``, which writes its tables to results/
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments import common

PROTOCOL = "affine"
#: Metrics of fidelity; 1 if higher is better, else -1.
FIDELITY = {"psnr": 1, "ms_ssim": 1, "nrmse": -1, "pearson": 1}
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


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables of the README by name, from the tables in ``folder/results``."""
    numbers, tests, uncertainty = (
        common.read(folder / "results" / f"{name}.csv") for name in ("table", "differences", "uncertainty")
    )
    numbers = [row for row in numbers if row["protocol"] == PROTOCOL]
    tests = [row for row in tests if row["protocol"] == PROTOCOL]
    sets = list(dict.fromkeys(row["set"] for row in numbers))
    return {
        "overview": _overview(numbers, sets),
        "fidelity": _fidelity(tests, sets),
        "looks": _looks(numbers, tests, sets),
        "std": _calibration(uncertainty, sets),
    }


def front(folder: Path) -> Mapping[str, str]:
    """Returns the table of the project's README, from the tables in ``folder/results``."""
    numbers = [row for row in common.read(folder / "results" / "table.csv") if row["protocol"] == PROTOCOL]
    chosen = [row for row in numbers if not row["row"].startswith(BEHIND)]
    sets = list(dict.fromkeys(row["set"] for row in numbers))
    uncertainty = common.read(folder / "results" / "uncertainty.csv")
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


def _short(row: Mapping[str, str] | None, metric: str) -> str:
    return "–" if row is None else f"{float(row['median']):.{DIGITS.get(metric, 3)}f}"


def _fidelity(tests: Rows, sets: Sequence[str]) -> str:
    """What is significantly better than the average of pmrf, and how far the average of ddpm is below it."""
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
        (ddpm,) = [row for row in rows if row["row"].startswith("ddpm, average") and row["metric"] == "psnr"]
        lines.append([one, ", ".join(better) or "none", _gain(ddpm)])
    return common.table(
        ["set", "significantly better than the average of pmrf", "pmrf above ddpm, averages (dB)"], lines
    )


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
    here = Path(__file__).parent
    common.fill(here / "README.md", report(here))
    common.fill(here.parents[1] / "README.md", front(here))
