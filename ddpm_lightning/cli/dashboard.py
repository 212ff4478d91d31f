"""Makes a W&B workspace and a report that compare methods and data sets.

Examples:
  ddpm-lightning dashboard entity=my_team                    saves both to W&B, and their definitions here
  ddpm-lightning dashboard                                   no account: only the definitions, in dashboard/

Needs `pip install "ddpm-lightning[dashboard]"`. Runs get there by `train logger=wandb`.
"""

import json
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.utils.atomic import write_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded

__all__ = ["definition", "run"]

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


def run(config: DictConfig) -> int:
    """Writes the definitions, and saves both to W&B if there is an account."""
    settings = compose.plain(config)
    folder = expanded(settings["output"])
    interface = _interface()
    wanted = definition()
    workspace = _workspace(interface, settings, wanted)
    write_json(folder / "workspace.json", _plain(workspace))
    write_json(folder / "report.json", {"title": settings["name"], "project": settings["project"], **wanted})
    print(f"definitions  {folder / 'workspace.json'}, {folder / 'report.json'}")
    if settings["entity"] is None:
        print("nothing was sent: give entity=NAME to save them to W&B")
        return 0
    try:
        print(f"workspace    {workspace.save().url}")
        print(f"report       {_report(interface, settings, wanted).save().url}")
    except Exception as error:
        # The errors of the service have no common base but their module; anything else is ours.
        if not type(error).__module__.startswith(("wandb", "requests")):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"entity={settings['entity']}",
            f"W&B does not take the dashboard: {reason}",
            remedy="log in by `wandb login`, check the name, or leave entity out; the definitions are written",
        ) from error
    return 0


def _interface() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
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


def _workspace(interface: tuple[Any, Any], settings: dict[str, Any], wanted: dict[str, Any]) -> Any:
    workspaces, reports = interface
    return workspaces.Workspace(
        entity=settings["entity"] or "",
        project=settings["project"],
        name=settings["name"],
        sections=[
            workspaces.Section(name=section["name"], panels=_panels(reports, section["panels"]), is_open=True)
            for section in wanted["sections"]
        ],
        settings=workspaces.WorkspaceSettings(x_axis=wanted["axis"]),
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Config(key) for key in wanted["groupby"]]
        ),
    )


def _report(interface: tuple[Any, Any], settings: dict[str, Any], wanted: dict[str, Any]) -> Any:
    _, reports = interface
    runs = reports.Runset(entity=settings["entity"], project=settings["project"], groupby=wanted["groupby"])
    blocks = [reports.TableOfContents()]
    for section in wanted["sections"]:
        grid = reports.PanelGrid(runsets=[runs], panels=_panels(reports, section["panels"]))
        blocks += [reports.H1(section["name"]), grid]
    return reports.Report(
        project=settings["project"],
        entity=settings["entity"],
        title=settings["name"],
        description="Runs of ddpm_lightning, pooled by method and data set.",
        blocks=blocks,
    )


def _plain(workspace: Any) -> dict[str, Any]:
    # Private, for want of another way to see a workspace without an account.
    return json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
