"""Gets a published data set, makes registered and split pairs of it, and audits them; or audits your own pairs.

Examples:
  ddpm-lightning prepare data=zebrafish                       download, unpack, cut, split, audit; resumes
  ddpm-lightning prepare data=mitochondria data.archive=FILE  the same from a file or folder obtained by hand
  ddpm-lightning prepare data=folder data.root=DIR check=true audit of your own pairs, nothing is changed
  ddpm-lightning prepare lpips                                the backbone of LPIPS, once; prints where it is

Leaves data/NAME/{train,val,test}/{low,high}/NNNNN.tif, manifest.json (what each pair was made from), audit.md and
audit.png (sizes, ranges, saturation, residual shift, duplicates, a contact sheet). Nothing is written to a folder of
your own, nor to data/: its audit is in audits/NAME, or where `output` says. Pairs that cannot be used are left out and
listed, and the exit code is then 3, as it is when the audit finds errors.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from ddpm_lightning.cli import compose
from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.datasets.audit import audit
from ddpm_lightning.datasets.audit_report import write_audit
from ddpm_lightning.datasets.preparation.download import Progress
from ddpm_lightning.datasets.preparation.manifest import damage
from ddpm_lightning.datasets.published import PublishedData
from ddpm_lightning.metrics.backbone import fetch_backbone
from ddpm_lightning.utils.atomic import remove_partials
from ddpm_lightning.utils.errors import UserError, printable
from ddpm_lightning.utils.instantiate import build
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.progress import EVERY, Remaining, so_far
from ddpm_lightning.utils.registry import OWN

__all__ = ["run", "spelled_out"]


def spelled_out(arguments: list[str]) -> list[str]:
    """Returns the overrides that arguments stand for: ``lpips`` is ``lpips=true``."""
    return ["lpips=true" if argument == "lpips" else argument for argument in arguments]


def run(config: DictConfig) -> int:
    """Prepares and audits as the configuration says; returns 3 if pairs were left out or the audit found errors."""
    settings = compose.plain(config)
    if settings["lpips"]:
        print(f"backbone of LPIPS: {fetch_backbone()}")
        return 0
    if settings["on_error"] not in ("skip", "stop"):
        raise compose.unknown("on_error", str(settings["on_error"]), ("skip", "stop"))
    if "data" not in settings:
        names = sorted(path.stem for path in (compose.config_folder() / "data").glob("*.yaml"))
        raise UserError(
            "data",
            "is not given",
            allowed=", ".join(name for name in names if name != "default"),
            remedy="add data=NAME; or say `ddpm-lightning prepare lpips`",
        )
    data: PairDataModule = build(settings["data"], ("data",), OWN)
    # The audit of a prepared set lies in it. Your own folder is not written to, and it may well be data/NAME.
    default = data.root if isinstance(data, PublishedData) else Path("audits") / data.name
    folder = expanded(settings["output"] or default)
    with ExitStack() as stack:
        if isinstance(data, PublishedData) and not settings["check"]:
            stack.enter_context(hold(data.root, settings["force"]))
        stack.enter_context(hold(folder, settings["force"]))
        remove_partials([folder])
        return _prepare(settings, data, folder)


def _prepare(settings: dict[str, Any], data: PairDataModule, folder: Path) -> int:
    manifest: dict[str, Any] | None = None
    with _progress() as progress:
        if isinstance(data, PublishedData):
            manifest = data.manifest() if settings["check"] else data.prepare(settings["on_error"], progress)
        sources, troubles = _sources(data)
        if settings["check"] and manifest:
            troubles += damage(data.root, manifest)
        found = audit(sources, progress)
    found.errors[:0] = troubles
    found.warnings += [f"{split}: {text}" for split in sources for text in data.notes(split)]
    report = write_audit(folder, data.name, found, sources, getattr(data, "facts", ""), manifest)
    sizes = ", ".join(f"{split.pairs} {name}" for name, split in found.splits.items())
    left_out = manifest["left_out"] if manifest else []
    print(printable(f"{data.name}: {sizes or 'no'} pairs; audit in {report}"))
    for title, texts in (
        ("error", found.errors),
        ("warning", found.warnings),
        ("left out", [f"{entry['low']}: {entry['reason']}" for entry in left_out]),
        ("not as published", manifest["differences"] if manifest else []),
    ):
        for text in texts[:5]:
            print(printable(f"  {title}: {text}"))
        if len(texts) > 5:
            print(f"  {title}: … {len(texts) - 5} more in {report.name}")
    return 3 if found.errors or left_out else 0


def _sources(data: PairDataModule) -> tuple[dict[str, Any], list[str]]:
    """Returns the pairs of each split, and what is wrong with splits that cannot be read.

    Raises:
        UserError: If no split can be read.
    """
    sources, troubles = {}, []
    for split in SPLITS:
        try:
            sources[split] = data.source(split)
        except UserError as error:
            troubles.append(error)
    if not sources:
        raise troubles[0]
    return sources, [" ".join(str(error).split()) for error in troubles]


@contextmanager
def _progress() -> Iterator[Progress]:
    """Draws a bar for each thing that is done; where there is no terminal, a line a minute says how far it is."""
    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining(), transient=True
    )
    bar.disable = not bar.console.is_terminal
    with bar:
        tasks: dict[str, Any] = {}
        began: dict[str, float] = {}
        said = time.monotonic()

        def show(what: str, done: int, total: int) -> None:
            nonlocal said
            now = time.monotonic()
            began.setdefault(what, now)
            if bar.disable and now - said >= EVERY:
                said = now
                print(
                    f"{what}: {so_far(done, total, now - began[what])}" if total > 0 else f"{what}: {done}",
                    flush=True,
                )
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what], completed=done, total=total if total > 0 else None)

        yield show
