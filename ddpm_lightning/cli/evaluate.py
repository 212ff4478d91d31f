"""Scores a trained model on a split: raw, a single draw, and the average of the draws.

Examples:
  ddpm-lightning evaluate checkpoint=runs/demo/checkpoints/best.ckpt
  ddpm-lightning evaluate checkpoint=CKPT data=folder data.root=DIR split=test draws=15 protocol=affine
  ddpm-lightning evaluate checkpoint=CKPT sampler=ddim sampler.steps=10 output=evaluations/ddim

Leaves in the output folder: metrics.csv (a row for each image and estimator), summary.json, summary.md, figures/.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.progress import track

from ddpm_lightning.build import build
from ddpm_lightning.callbacks.status import write_json
from ddpm_lightning.cli import compose
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.errors import UserError
from ddpm_lightning.evaluation.figures import panel
from ddpm_lightning.evaluation.run import Restored, Row, Scoring, evaluate, summarise
from ddpm_lightning.evaluation.tables import summary_markdown, write_rows
from ddpm_lightning.inference.checkpoint import Trained, load
from ddpm_lightning.inference.restorer import Restorer, choose_device
from ddpm_lightning.metrics.backbone import find_backbone
from ddpm_lightning.metrics.protocol import PROTOCOLS

__all__ = ["run", "score_checkpoint"]


def run(config: DictConfig) -> int:
    """Evaluates as the configuration says and prints the table."""
    settings = compose.plain(config)
    folder, summary = score_checkpoint(settings)
    print(f"\n{summary_markdown(summary)}\nresults in {folder}")
    return 0


def score_checkpoint(settings: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Scores a checkpoint and writes the results.

    Args:
        settings: Configuration of the verb ``evaluate``.

    Returns:
        The folder of the results, and the summary.

    Raises:
        UserError: If the checkpoint, the data or a setting cannot be used.
    """
    if settings["protocol"] not in PROTOCOLS:
        raise compose.unknown("protocol", str(settings["protocol"]), PROTOCOLS)
    for key in ("draws", "limit", "figures"):
        if settings[key] is not None and settings[key] < (key != "figures"):
            raise UserError(key, f"is {settings[key]}", allowed="a whole number of at least 1 (figures: 0)")
    trained = load(settings["checkpoint"], choose_device(settings["device"]), settings["sampler"])
    data = _data(settings.get("data"), trained)
    source = data.pairs(settings["split"])
    restorer = Restorer(
        trained, settings["tile"], settings["overlap"], settings["seed"], settings["bfloat16"]
    )
    backbone = find_backbone(settings["metrics"]["lpips"]["backbone"])
    scoring = Scoring(
        settings["protocol"],
        settings["draws"],
        _perceptual_metric(backbone),
        settings["metrics"]["resolution"],
    )
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(settings["output"] or f"evaluations/{stamp}_{data.name}_{settings['split']}").expanduser()
    count = min(len(source), settings["limit"] or len(source))
    drawn = range(0, count, max(1, count // settings["figures"])) if settings["figures"] else range(0)
    places = iter(range(count))

    def draw_figure(restored: Restored, rows: list[Row]) -> None:
        if next(places) in drawn:
            panel(
                *_panel(restored, rows),
                pixel_size=restored.pair.pixel_size,
                title=f"{data.name} {restored.pair.name}",
            )

    def panel_path(restored: Restored) -> Path:
        return folder / "figures" / f"{restored.pair.name}.png"

    def _panel(restored: Restored, rows: list[Row]) -> tuple[list[dict], Path, list[dict[str, str]]]:
        images = {
            "low": restored.pair.low,
            "single": restored.single,
            "average": restored.average,
            "std": restored.std,
            "target": restored.pair.high,
        }
        captions = {
            row.estimator: f"PSNR {row.values['psnr']:.2f} dB" for row in rows if "psnr" in row.values
        }
        captions["low"] = captions.pop("raw", "")
        return [images], panel_path(restored), [captions]

    images = track(range(count), description="evaluating", total=count)
    rows = list(evaluate(restorer, source, scoring, images, draw_figure))
    summary = {
        "protocol": settings["protocol"],
        "data": data.name,
        "split": settings["split"],
        "draws": 1 if trained.method.deterministic else settings["draws"],
        "images": count,
        "preset": trained.method.preset,
        "evaluations_per_draw": trained.method.evaluations,
        "seed": settings["seed"],
        "bfloat16": settings["bfloat16"],
        "checkpoint": {"file": str(trained.path), "sha256": trained.sha256, "names": trained.card["names"]},
        "estimators": summarise(rows),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(rows, folder / "metrics.csv")
    write_json(folder / "summary.json", summary)
    (folder / "summary.md").write_text(summary_markdown(summary), encoding="utf-8")
    return folder, summary


def _data(node: dict[str, Any] | None, trained: Trained) -> PairDataModule:
    """Builds the data set to score on, with the normalisation of the checkpoint."""
    node = dict(node or trained.card["data"])
    data: PairDataModule = build({**node, "normalisation": trained.card["normalisation"]["config"]})
    data.load_normalisation(trained.card["normalisation"]["state"])
    return data


def _perceptual_metric(backbone: Path | None) -> Any:
    if backbone is None:
        return None
    from ddpm_lightning.metrics.lpips import Lpips  # only where it is used: the package is heavy

    with torch.inference_mode(False):
        return Lpips.load(backbone)
