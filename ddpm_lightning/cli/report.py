"""Writes one self-contained page of evaluations: numbers with intervals, a viewer, figures.

Examples:
  ddpm-lightning report runs/demo
  ddpm-lightning report evaluations/ddpm evaluations/care names=[ddpm,care] output=report.html

Leaves report.html, a file of a few MB that needs no network. Evaluations of the same images under the same protocol
stand in one table, with the differences that are resolved; in the viewer all methods move together.
"""

from pathlib import Path

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.cli.compare import spelled_out
from ddpm_lightning.reporting.html_report import read_evaluation, report_page
from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded

__all__ = ["run", "spelled_out"]


def run(config: DictConfig) -> int:
    """Writes the page."""
    settings = compose.plain(config)
    given = settings["files"]
    folders = [expanded(file) for file in ([given] if isinstance(given, str) else given)]
    output = _output(expanded(str(settings["output"])))
    names = settings["names"] or _models(folders) or _names(folders)
    if len(names) != len(folders):
        raise UserError("names", f"{len(names)} names for {len(folders)} folders", remedy="give one for each")
    if len(set(names)) < len(names):
        raise UserError("names", "are not all different", remedy="give names=[A,B]")
    page = report_page(
        [read_evaluation(folder, str(name)) for folder, name in zip(folders, names, strict=True)],
        settings["title"],
    )
    write_text(output, page)
    print(f"{output} ({len(page) / 2**20:.1f} MB): open it in a browser")
    return 0


def _output(path: Path) -> Path:
    """Returns the file to write, from a folder or the name of a page with or without its extension.

    Raises:
        UserError: If a file of another type has that name.
    """
    if path.is_dir():
        return path / "report.html"
    if path.suffix.lower() in (".html", ".htm"):
        return path
    if path.exists():
        raise UserError(
            f"output={path}", "is a file, but not an HTML page", allowed="NAME.html, NAME, or a folder"
        )
    return path.with_name(f"{path.name}.html")


def _models(folders: list[Path]) -> list[str]:
    """Returns the names of the models if all are known and different; else an empty list."""
    found = (read_evaluation(folder, "").summary["checkpoint"].get("names") for folder in folders)
    names = [str(one.get("model") or "") if isinstance(one, dict) else "" for one in found]
    return names if all(names) and len(set(names)) == len(names) else []


def _names(folders: list[Path]) -> list[str]:
    """Returns names of folders, with as many parents as it takes to tell them apart."""
    resolved = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(folder.parts) for folder in resolved) + 1):
        names = ["/".join(folder.parts[-depth:]) for folder in resolved]
        if len(set(names)) == len(set(resolved)):
            break
    return names
