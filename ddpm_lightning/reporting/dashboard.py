"""A W&B workspace and a report that compare methods and data sets."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_lightning.evaluation.settings import FileName
from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import Settings, Text

__all__ = ["Dashboard", "DashboardSettings", "definition", "make_dashboard"]

#: Sections of the workspace: title, metrics, and whether runs are pooled by method and data set.
SECTIONS = (
    (
        "Methods and data sets",
        ("val/psnr", "val/ms_ssim", "val/lpips", "val/nrmse"),
        True,
    ),
    ("What averaging gains", ("val/psnr_single", "val/psnr"), False),
    ("Losses", ("train/loss", "val/loss", "train/skipped"), False),
)
#: Where the logger puts what runs differ in.
METHOD, DATA = "names.model", "names.data"
AXIS = "images"


def definition() -> dict[str, Any]:
    """Returns sections and panels in plain containers: what W&B is asked for, whatever its classes are called today."""
    sections = [
        {
            "name": name,
            "panels": [
                {
                    "kind": "line",
                    "x": AXIS,
                    "y": [metric],
                    "title": metric,
                    "groupby": METHOD if pooled else None,
                }
                for metric in metrics
            ],
        }
        for name, metrics, pooled in SECTIONS
    ]
    media = {"kind": "media", "keys": ["panels"], "title": "The same validation images in every run"}
    sections.insert(1, {"name": "Images", "panels": [media]})
    return {"sections": sections, "groupby": [METHOD, DATA], "axis": AXIS}


class DashboardSettings(Settings):
    """Where the dashboard is saved.

    Attributes:
        entity: User or team of W&B; ``None`` writes the definitions only.
        project: Project that runs were logged to.
        name: Title of workspace and report.
        output: Folder of ``workspace.json`` and ``report.json``, the definitions.
    """

    entity: Text | None = None
    project: Text = "ddpm_lightning"
    name: Text = "Methods and data sets"
    output: FileName = "dashboard"


@dataclass(frozen=True)
class Dashboard:
    """What was made.

    Attributes:
        folder: Folder of the definitions.
        addresses: Address on W&B of ``workspace`` and ``report``; empty if nothing was sent.
    """

    folder: Path
    addresses: dict[str, str]


def make_dashboard(settings: DashboardSettings) -> Dashboard:
    """Writes the definitions of a workspace and a report, and saves both to W&B if there is an account.

    Raises:
        UserError: If a package is missing, or W&B rejects the dashboard.
    """
    folder = expanded(settings.output)
    interface = _interface()
    wanted = definition()
    workspace = _workspace(interface, settings, wanted)
    write_json(folder / "workspace.json", _plain(workspace))
    write_json(folder / "report.json", {"title": settings.name, "project": settings.project, **wanted})
    if settings.entity is None:
        return Dashboard(folder, {})
    try:
        report = _report(interface, settings, wanted)
        return Dashboard(folder, {"workspace": workspace.save().url, "report": report.save().url})
    except Exception as error:
        # The errors of the service have no common base but their module; anything else is ours.
        if not type(error).__module__.startswith(("wandb", "requests")):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"entity={settings.entity}",
            f"W&B rejects the dashboard: {reason}",
            remedy="log in by `wandb login`, check the name, or leave entity out; the definitions are written",
        ) from error


def _interface() -> tuple[Any, Any]:
    try:
        # An optional package: type checkers need not find it.
        reports = importlib.import_module("wandb_workspaces.reports.v2")
        workspaces = importlib.import_module("wandb_workspaces.workspaces")
    except ImportError as error:
        remedy = 'pip install "ddpm-lightning[dashboard]"'
        raise UserError("dashboard", "needs a package that is not installed", remedy=remedy) from error
    return workspaces, reports


def _panels(reports: Any, panels: Sequence[dict[str, Any]]) -> list[Any]:
    built = []
    for panel in panels:
        if panel["kind"] == "media":
            built.append(reports.MediaBrowser(title=panel["title"], media_keys=panel["keys"]))
            continue
        pooled = (
            {"groupby": reports.Config(panel["groupby"]), "groupby_rangefunc": "stddev"}
            if panel["groupby"]
            else {}
        )
        built.append(reports.LinePlot(title=panel["title"], x=panel["x"], y=panel["y"], **pooled))
    return built


def _workspace(interface: tuple[Any, Any], settings: DashboardSettings, wanted: dict[str, Any]) -> Any:
    workspaces, reports = interface
    return workspaces.Workspace(
        entity=settings.entity or "",
        project=settings.project,
        name=settings.name,
        sections=[
            workspaces.Section(name=section["name"], panels=_panels(reports, section["panels"]), is_open=True)
            for section in wanted["sections"]
        ],
        settings=workspaces.WorkspaceSettings(x_axis=wanted["axis"]),
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Config(key) for key in wanted["groupby"]]
        ),
    )


def _report(interface: tuple[Any, Any], settings: DashboardSettings, wanted: dict[str, Any]) -> Any:
    _, reports = interface
    runs = reports.Runset(entity=settings.entity, project=settings.project, groupby=wanted["groupby"])
    blocks = [reports.TableOfContents()]
    for section in wanted["sections"]:
        grid = reports.PanelGrid(runsets=[runs], panels=_panels(reports, section["panels"]))
        blocks += [reports.H1(section["name"]), grid]
    return reports.Report(
        project=settings.project,
        entity=settings.entity,
        title=settings.name,
        description="Runs of ddpm_lightning, pooled by method and data set.",
        blocks=blocks,
    )


def _plain(workspace: Any) -> dict[str, Any]:
    # Private, for want of another way to see a workspace without an account.
    return json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
