"""Writes the HTML report of evaluations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ddpm_lightning.evaluation.settings import FileName, Texts
from ddpm_lightning.reporting.html_report import read_evaluation, report_page
from ddpm_lightning.utils.atomic import write_text
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import Settings, Text

__all__ = ["ReportSettings", "write_report"]


class ReportSettings(Settings):
    """Which evaluations are reported, and where.

    Attributes:
        files: Folders of evaluations, or of runs with an evaluation in them.
        names: Their names in the report; by default those of the models, or of the folders if models repeat.
        title: Title of the page.
        output: File to write: ``NAME.html``, ``NAME``, or a folder, in which it is called ``report.html``.
    """

    files: Annotated[Texts, Field(min_length=1)]
    names: list[Text] | None = None
    title: Text = "Restoration report"
    output: FileName = "report.html"


def write_report(settings: ReportSettings) -> Path:
    """Writes the report and returns its file.

    Raises:
        UserError: If an evaluation cannot be read, or a setting cannot be used.
    """
    folders = [expanded(file) for file in settings.files]
    output = _output(expanded(settings.output))
    names = settings.names or _models(folders) or _names(folders)
    if len(names) != len(folders):
        raise UserError("names", f"{len(names)} names for {len(folders)} folders", remedy="give one for each")
    if len(set(names)) < len(names):
        raise UserError("names", "are not all different", remedy="give names=[A,B]")
    evaluations = [read_evaluation(folder, name) for folder, name in zip(folders, names, strict=True)]
    write_text(output, report_page(evaluations, settings.title))
    return output


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


def _models(folders: Sequence[Path]) -> list[str]:
    """Returns the names of the models if all are known and different; else an empty list."""
    found = (read_evaluation(folder, "").summary["checkpoint"].get("names") for folder in folders)
    names = [str(one.get("model") or "") if isinstance(one, dict) else "" for one in found]
    return names if all(names) and len(set(names)) == len(names) else []


def _names(folders: Sequence[Path]) -> list[str]:
    """Returns the names of folders, with as many parents as are needed to distinguish them."""
    paths = [folder.resolve() for folder in folders]
    names = [path.name for path in paths]
    for depth in range(2, max(len(path.parts) for path in paths) + 1):
        if len(set(names)) == len(set(paths)):
            break
        names = ["/".join(path.parts[-depth:]) for path in paths]
    return names
