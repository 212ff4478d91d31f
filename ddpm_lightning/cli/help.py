"""The text of ``--help``, read from docstrings and configuration files without importing what a verb needs to run."""

import ast
import textwrap
from pathlib import Path

from ddpm_lightning.cli.path_keys import PATHS
from ddpm_lightning.cli.tree import choices, config_folder, groups_of, summary
from ddpm_lightning.models.presets import SCORED, Preset, of_diffusion, of_flow
from ddpm_lightning.utils.version import __version__

__all__ = ["VERBS", "overview", "verb_help"]

VERBS = {
    "prepare": "download a published data set and make pairs of it, or check your own pairs",
    "train": "train a model on pairs of noisy and clean images",
    "evaluate": "compute the metrics of a trained model on a data split, image by image",
    "compare": "compare evaluations of the same images, with tests of their differences",
    "report": "write evaluations into one HTML page with an image viewer",
    "restore": "restore image files with a trained model, with an uncertainty map",
    "export": "write a trained model as a BioImage.IO package, or as a small file to share",
    "show": "print what a run or a checkpoint was trained on, how, and how good it is",
    "dashboard": "make a W&B workspace and report that compare methods and data sets",
    "benchmark": "train and score all methods on all data sets under one budget, and write one table",
    "demo": "run all steps on simulated data in minutes, without downloads",
}
WIDTH = 116
#: Verbs whose models offer presets.
WITH_PRESETS = ("evaluate", "restore", "export")


def overview() -> str:
    """Returns what the program does, verb by verb."""
    return "\n".join(
        [
            f"ddpm-lightning {__version__}: restores microscopy images with conditional diffusion models",
            "",
            "usage: ddpm-lightning VERB [KEY=VALUE ...]",
            "",
            *_table(VERBS),
            "",
            "ddpm-lightning VERB --help      examples, settings and choices of a verb",
            "ddpm-lightning VERB --cfg job   the whole configuration, nothing is run",
        ]
    )


def verb_help(verb: str) -> str:
    """Returns what a verb does: examples, settings, and the choices of each group with a line on each."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    file = (config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    # After the list of defaults; the groups are listed with their choices below.
    settings = file.partition("\n\n")[2]
    lines = [
        f"ddpm-lightning {verb}: {VERBS[verb]}",
        "",
        ast.get_docstring(ast.parse(source)) or "",
        "",
        f"Settings (conf/{verb}.yaml):",
        "",
        *(f"  {line}" for line in settings.splitlines()),
        *_choices(verb),
    ]
    if verb in WITH_PRESETS:
        for models, presets in (
            ("diffusion models", of_diffusion(epsilon=False, p_terminal=False)),
            ("flows (pmrf, residual_flow)", of_flow(conditional=True)),
            ("scored", SCORED),
        ):
            lines += ["", f"preset=NAME, {models}:", "", *_table({n: _use(p) for n, p in presets.items()})]
    return "\n".join([*lines, "", _paths(verb)])


def _choices(verb: str) -> list[str]:
    lines = []
    for group, (default, said) in groups_of(verb).items():
        title = f"{group}=NAME" + (f": {said}" if said else "")
        title += f" (by default {default})" if default not in ("", "null") else ""
        lines += ["", title, "", *_table({name: summary(group, name) for name in choices(group)})]
    return lines


def _use(preset: Preset) -> str:
    return preset.use if preset.mean == "network" else f"{preset.use} (samples={preset.samples})"


def _table(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows))
    lines = []
    for name, text in rows.items():
        lines.append(
            f"  {name:<{width}}  {textwrap.shorten(text, WIDTH - width - 4, placeholder=' …')}".rstrip()
        )
    return lines


def _paths(verb: str) -> str:
    """Explains how to type the paths of a verb."""
    text = (
        f"Paths ({', '.join(PATHS[verb])}) may contain any characters; quote them only as your shell requires: "
        "KEY='exp 1 (20x, 50% laser)'. If a file or folder of exactly that name exists, it is used. Otherwise the "
        "value may be a pattern (day1/*.tif), a list ([a.tif,b.tif]), values of a sweep (--multirun KEY=a,b), null, or "
        "a quoted path."
    )
    return textwrap.fill(text, WIDTH)
