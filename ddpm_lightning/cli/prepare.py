"""Downloads a published data set, turns it into registered and split pairs, and audits them; or audits your own pairs.

Examples:
  ddpm-lightning prepare data=zebrafish                       download, unpack, crop, split, audit; resumable
  ddpm-lightning prepare data=mitochondria data.archive=FILE  the same from a file or folder that you downloaded
  ddpm-lightning prepare data=folder data.root=DIR check=true audit your own pairs; nothing is changed
  ddpm-lightning prepare lpips                                get the LPIPS backbone, once; prints where it is

Writes data/NAME/{train,val,test}/{low,high}/NNNNN.tif, manifest.json (the origin of each pair), audit.md and audit.png
(sizes, ranges, saturation, residual shift, duplicates, a contact sheet). Nothing is written to a folder of your own:
its audit is in audits/NAME, or in the folder given by output=DIR. Pairs that cannot be used are left out and listed;
the exit code is then 3, as it is if the audit finds errors.
"""

from typing import Any

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.tree import choices
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.datasets.prepare import Prepared, PrepareSettings, prepare
from ddpm_lightning.metrics.backbone import fetch_backbone
from ddpm_lightning.utils.allowed_classes import OWN
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.settings import Seed
from ddpm_lightning.utils.task_progress import task_progress

__all__ = ["run", "spelled_out"]

#: Entries of a list that are printed; the audit has them all.
SHOWN = 5


class PrepareCommand(PrepareSettings):
    """What is prepared, and how.

    Attributes:
        lpips: Whether the LPIPS backbone is downloaded, and nothing else is done.
        data: Description of the data set.
        seed: Seed of the data module.
    """

    lpips: bool = False
    data: dict[str, Any] | None = None
    seed: Seed = 0


def spelled_out(arguments: list[str]) -> list[str]:
    """Returns the overrides that arguments stand for: ``lpips`` is ``lpips=true``."""
    return ["lpips=true" if argument == "lpips" else argument for argument in arguments]


def run(config: DictConfig) -> int:
    """Prepares and audits; returns 3 if pairs were left out or the audit found errors."""
    settings = compose.settings(config, PrepareCommand)
    if settings.lpips:
        print(f"backbone of LPIPS: {fetch_backbone()}")
        return 0
    if settings.data is None:
        raise UserError(
            "data",
            "is not given",
            allowed=", ".join(choices("data")),
            remedy="add data=NAME; or run `ddpm-lightning prepare lpips`",
        )
    data: PairDataModule = build(settings.data, ("data",), OWN, "data")
    with task_progress() as progress:
        prepared = prepare(data, settings, progress)
    _print(prepared)
    return 0 if prepared.complete else 3


def _print(prepared: Prepared) -> None:
    sizes = ", ".join(f"{split.pairs} {name}" for name, split in prepared.audit.splits.items())
    print(printable(f"{prepared.name}: {sizes or 'no'} pairs; audit in {prepared.report}"))
    for title, texts in (
        ("error", prepared.audit.errors),
        ("warning", prepared.audit.warnings),
        ("left out", prepared.left_out),
        ("not as published", prepared.differences),
    ):
        for text in texts[:SHOWN]:
            print(printable(f"  {title}: {text}"))
        if len(texts) > SHOWN:
            print(f"  {title}: … {len(texts) - SHOWN} more in {prepared.report.name}")
