"""Scores methods on the mixed test set of FMD by the published protocol.

python -m experiments.fmd.run --pairs DIR
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import tifffile

from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.utils.errors import UserError
from experiments import common, vst_bm3d
from experiments.fmd import protocol
from experiments.fmd.images import KINDS, Frame, find

SIZES = {"small": {"frames": 4}, "full": {"frames": 4}}
#: Mean PSNR of the 48 frames of the mixed test set as published (Zhang et al. 2019, table 2), and how close is equal.
PUBLISHED_RAW, TOLERANCE = 27.22, 0.05
#: Rows of the tables, in order.
METHODS = ("raw", "best blur", "VST + BM3D", "noise2void", "default")
#: Published results without a fit, as quoted in their papers: PSNR and SSIM by kind. They were not run here.
QUOTED = {
    "Confocal_FISH": {"Noise2VST": "32.88 / 0.904", "Blind2Unblind": "32.74 / 0.897", "supervised": "32.79"},
    "Confocal_MICE": {
        "Blind2Sound": "38.46 / 0.965",
        "Blind2Unblind": "38.44",
        "supervised": "38.40",
        "Neighbor2Neighbor": "37.07",
    },
    "TwoPhoton_MICE": {"Noise2VST": "34.06 / 0.926", "Blind2Unblind": "34.03"},
}


def measure(options: common.Options) -> None:
    """Checks the harness, and adds a row for each frame and method."""
    every = find(options.pairs)
    frames = [
        frame
        for _, kind in groupby(every, key=lambda frame: frame.kind)
        for frame in list(kind)[: options.size["frames"]]
    ]
    classical = _rows(options, "classical", {})
    add(classical, frames, "raw", lambda frame: [frame.low])
    check_raw(common.read(classical.path))
    add(classical, frames, "best blur", lambda frame: common.blurred(frame.low))
    model = Restorer.load(options.model, bfloat16="auto")
    of_model = _rows(options, "model", {"model": model.trained.sha256})
    add(of_model, frames, "default", lambda frame: [_restored(model, frame)])
    if vst_bm3d.installed():
        bm3d = _rows(options, "vst_bm3d", {})
        add(bm3d, frames, "VST + BM3D", lambda frame: [vst_bm3d.vst_bm3d(frame.low)])
    else:
        print("VST + BM3D is left out: install the extra `benchmarks`", flush=True)
    trained = trainings(options, frames)
    hashes = {kind: restorer.trained.sha256 for kind, restorer in trained.items()}
    noise2void = _rows(options, "noise2void", {"models": hashes})
    add(noise2void, frames, "noise2void", lambda frame: [_restored(trained[frame.kind], frame)])


def _rows(options: common.Options, name: str, settings: Mapping) -> common.Rows:
    """Returns a table of its own for what depends on these settings: with a new model, the others are kept."""
    return common.Rows(options.work / f"{name}.csv", settings, ("image", "method"))


def _restored(restorer: Restorer, frame: Frame) -> np.ndarray:
    return restorer.restore(frame.low, image=frame.name).mean


def add(
    rows: common.Rows, frames: Sequence[Frame], method: str, restored: Callable[[Frame], Iterable[np.ndarray]]
) -> None:
    """Adds a row for each frame; of several versions of an image, each score is the best one."""
    for frame in frames:
        if not rows.has(image=frame.name, method=method):
            versions = [protocol.scores(image, frame.high) for image in restored(frame)]
            best = {metric: max(version[metric] for version in versions) for metric in protocol.METRICS}
            rows.add([{"kind": frame.kind, "image": frame.name, "method": method, **best}])


def check_raw(rows: Sequence[Mapping[str, str]]) -> None:
    """Compares the raw frames with the published mean, if all 48 are there.

    Raises:
        UserError: If it differs: then the files or the protocol are others, and no score is comparable.
    """
    found = [float(row["psnr"]) for row in rows if row["method"] == "raw"]
    if len(found) == 4 * len(KINDS) and abs(np.mean(found) - PUBLISHED_RAW) > TOLERANCE:
        raise UserError(
            "--pairs",
            f"has a mean PSNR of {np.mean(found):.2f} dB before any restoration",
            allowed=f"{PUBLISHED_RAW} dB, as published for the frames of test_mix/raw",
            remedy="use the frames and references of the archive, unchanged",
        )


def trainings(options: common.Options, frames: Sequence[Frame]) -> dict[str, Restorer]:
    """Returns Noise2Void by kind, trained on the frames of that kind alone; clean images have no part in it."""
    sets = {}
    for kind in dict.fromkeys(frame.kind for frame in frames):
        folder = options.work / "frames" / kind
        for frame in frames:
            if frame.kind == kind:
                _copy(frame, folder)
        sets[f"fmd_{kind}"] = ["data=folder", f"data.root='{folder}'", "data/normalisation=shared"]
    found = common.checkpoints(options, sets, ["noise2void"])
    return {name.removeprefix("fmd_"): common.loaded(options, path) for (name, _), path in found.items()}


def _copy(frame: Frame, folder: Path) -> None:
    """Puts a frame into all splits: a method without clean images trains on the very images that it restores.

    The reference is there because ``evaluate`` asks for it; neither the loss nor the choice of the checkpoint uses it.
    """
    for split in SPLITS:
        for part, plane in (("low", frame.low), ("high", frame.high)):
            target = folder / split / part / f"{frame.name}.tif"
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(target, plane)


def report(folder: Path) -> Mapping[str, str]:
    """Returns the tables by name."""
    rows = _comparable(
        [row for path in sorted((folder / "results").glob("*.csv")) for row in common.read(path)]
    )
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    return {
        "raw": _raw(rows, kinds),
        "scores": _by_kind(rows, kinds, methods, "psnr"),
        "crops": _by_kind(rows, kinds, methods, "psnr_crops"),
        "affine": _by_kind(rows, kinds, methods, "psnr_affine"),
        "published": _beside_published(rows, kinds, methods),
    }


Row = Mapping[str, str]


def _comparable(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of raw frames, and of other methods those of frames that all methods have restored, by kind.

    A method that has restored no frame of a kind is left out there.
    """
    kept = []
    for kind in KINDS:
        frames: dict[str, set[str]] = {}
        for row in rows:
            if row["kind"] == kind:
                frames.setdefault(row["method"], set()).add(row["image"])
        shared = set.intersection(*frames.values()) if frames else set()
        kept += [
            row for row in rows if row["kind"] == kind and (row["method"] == "raw" or row["image"] in shared)
        ]
    return kept


def _raw(rows: Sequence[Row], kinds: Sequence[str]) -> str:
    """Returns the PSNR of all raw frames, which shows whether the harness is the published one."""
    metrics = ("psnr", "psnr_crops")
    lines = []
    for kind in [*kinds, None]:
        frames = sum(row["method"] == "raw" and kind in (None, row["kind"]) for row in rows)
        lines.append([kind or "all", frames, *(_mean(rows, kind, "raw", metric) for metric in metrics)])
    lines.append(["all 12 kinds, as published", 4 * len(KINDS), f"{PUBLISHED_RAW:.2f}", ""])
    return common.table(["kind", "frames", "whole image", "authors' crops"], lines)


def _mean(rows: Sequence[Row], kind: str | None, method: str, metric: str, digits: int = 2) -> str:
    """Returns the mean over frames of a kind, or over all frames, as text; empty if there are none."""
    having = [float(row[metric]) for row in rows if row["method"] == method and kind in (None, row["kind"])]
    return f"{np.mean(having):.{digits}f}" if having else ""


def _by_kind(rows: Sequence[Row], kinds: Sequence[str], methods: Sequence[str], metric: str) -> str:
    """Returns means by kind, and the mean over kinds of the methods that have restored all of them."""
    others = [method for method in methods if method != "raw"]
    lines, over_kinds = [], []
    for kind in kinds:
        frames = {row["image"] for row in rows if row["kind"] == kind and row["method"] != "raw"}
        lines.append([kind, len(frames), *(_mean(rows, kind, method, metric) for method in others)])
    for column in range(len(others)):
        values = [line[2 + column] for line in lines]
        over_kinds.append(f"{np.mean([float(value) for value in values]):.2f}" if all(values) else "")
    lines.append([f"mean of {len(kinds)} kinds", "", *over_kinds])
    return common.table(["kind", "frames", *others], lines)


def _beside_published(rows: Sequence[Row], kinds: Sequence[str], methods: Sequence[str]) -> str:
    """Returns what is measured here beside what papers report."""
    lines = []
    for kind, quoted in QUOTED.items():
        if kind in kinds:
            lines += [[kind, method, values, "quoted"] for method, values in quoted.items()]
            for method in methods:
                if psnr := _mean(rows, kind, method, "psnr"):
                    ssim = _mean(rows, kind, method, "ssim", 3)
                    lines.append([kind, method, f"{psnr} / {ssim}", "measured here"])
    return common.table(["kind", "method", "PSNR (dB) / SSIM", ""], lines)


if __name__ == "__main__":
    common.run("fmd", SIZES, measure, report)
