"""Prepares a published data set and audits it, or audits your own pairs.

>>> prepare(data, PrepareSettings(check=True)).audit.errors  # doctest: +SKIP
[]
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddpm_lightning.data.datamodule import PairDataModule
from ddpm_lightning.data.pairs import PairSource
from ddpm_lightning.data.splits import SPLITS
from ddpm_lightning.datasets.audit import Audit, audit
from ddpm_lightning.datasets.audit_report import write_audit
from ddpm_lightning.datasets.preparation.manifest import Manifest, damage
from ddpm_lightning.datasets.published import PublishedData
from ddpm_lightning.utils.atomic import remove_partials
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.lock import hold
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import Settings, Text
from ddpm_lightning.utils.task_progress import Report

__all__ = ["PrepareSettings", "Prepared", "prepare"]


class PrepareSettings(Settings):
    """Settings of :func:`prepare`.

    Attributes:
        check: Whether to audit the existing files without preparing anything.
        output: Folder of the audit; by default that of a prepared set, and ``audits/NAME`` for other data.
        on_error: Whether to skip a pair that cannot be used, or stop.
        force: Whether to take over the folders from a job that cannot be checked, for example on another machine.
    """

    check: bool = False
    output: Text | None = None
    on_error: Literal["skip", "stop"] = "skip"
    force: bool = False


@dataclass(frozen=True)
class Prepared:
    """A prepared and audited data set.

    Attributes:
        name: Name of the data set.
        audit: The audit.
        report: The file ``audit.md``.
        left_out: Pairs that could not be used, each with the reason.
        differences: Splits that differ in size from the published ones, as sentences.
    """

    name: str
    audit: Audit
    report: Path
    left_out: list[str]
    differences: list[str]

    @property
    def complete(self) -> bool:
        """Whether all pairs could be used and the audit found no errors."""
        return not self.audit.errors and not self.left_out


def prepare(
    data: PairDataModule, settings: PrepareSettings | None = None, progress: Report | None = None
) -> Prepared:
    """Prepares a published data set if necessary, and audits it; other data are only audited.

    Args:
        data: The data set.
        settings: Settings; by default, prepare and audit.
        progress: Called with the progress of each task.

    Raises:
        UserError: If the data set cannot be obtained or none of its splits can be read, or if a folder is in use.
    """
    settings = settings or PrepareSettings()
    # The audit of a prepared set is written into it. A folder of your own is not written to, and may be data/NAME.
    default = data.root if isinstance(data, PublishedData) else Path("audits") / data.name
    folder = expanded(settings.output or default)
    with ExitStack() as stack:
        if isinstance(data, PublishedData) and not settings.check:
            stack.enter_context(hold(data.root, settings.force))
        stack.enter_context(hold(folder, settings.force))
        remove_partials([folder])
        return _prepare(data, settings, folder, progress)


def _prepare(
    data: PairDataModule, settings: PrepareSettings, folder: Path, progress: Report | None
) -> Prepared:
    manifest: Manifest | None = None
    if isinstance(data, PublishedData):
        manifest = data.manifest() if settings.check else data.prepare(settings.on_error, progress)
    sources, errors = _sources(data)
    if isinstance(data, PublishedData) and settings.check and manifest:
        errors += damage(data.root, manifest)
    found = audit(sources, progress)
    found.errors[:0] = errors
    found.warnings += [f"{split}: {text}" for split in sources for text in data.notes(split)]
    report = write_audit(folder, data.name, found, sources, getattr(data, "facts", ""), manifest)
    left_out = [f"{entry['low']}: {entry['reason']}" for entry in manifest["left_out"]] if manifest else []
    return Prepared(data.name, found, report, left_out, manifest["differences"] if manifest else [])


def _sources(data: PairDataModule) -> tuple[dict[str, PairSource], list[str]]:
    """Returns the pairs of each split, and the errors of splits that cannot be read.

    Raises:
        UserError: If no split can be read.
    """
    sources: dict[str, PairSource] = {}
    errors: list[UserError] = []
    for split in SPLITS:
        try:
            sources[split] = data.source(split)
        except UserError as error:
            errors.append(error)
    if not sources:
        raise errors[0]
    return sources, [" ".join(str(error).split()) for error in errors]
