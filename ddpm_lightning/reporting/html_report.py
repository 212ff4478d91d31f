"""One page to look at: evaluations side by side, with a viewer, in a single file that needs no network.

The page is made of ``summary.json``, ``metrics.csv``, ``viewer/`` and ``figures/`` of each evaluation; only the
comparison is computed anew. Its style sheet and its script are in ``report_page/``.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from ddpm_lightning.evaluation.comparison import Comparison, compare, read_methods
from ddpm_lightning.evaluation.statistics import Estimate
from ddpm_lightning.evaluation.tables import ARROWS, SAMPLE_MEANINGS
from ddpm_lightning.reporting.comparison_tables import in_words, too_few_fields
from ddpm_lightning.reporting.viewer_images import rescaled
from ddpm_lightning.utils.atomic import read_text
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import command_of
from ddpm_lightning.utils.plain import check_plain

__all__ = ["Evaluation", "read_evaluation", "report_page"]

PAGE = Path(__file__).parent / "report_page"
#: How every PNG begins.
PNG = b"\x89PNG\r\n\x1a\n"
ADDRESS = "data:image/png;base64,"
#: Figures that a report shows, with what they show, in order.
FIGURES = {
    "scores.png": "scores of all images",
    "averaging.png": "what averaging brings",
    "realism.png": "perception-distortion trade-off",
    "calibration.png": "calibration of the standard deviation",
    "spectrum.png": "power by spatial frequency",
    "frc.png": "agreement with the target by spatial frequency",
    "samples.png": "where the samples disagree most",
    "inputs.png": "inputs against those of the training",
}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation left.

    Attributes:
        name: Name in the report.
        folder: Its folder.
        summary: Content of ``summary.json``.
    """

    name: str
    folder: Path
    summary: dict[str, Any]


def read_evaluation(folder: Path, name: str) -> Evaluation:
    """Reads an evaluation, or that of a run.

    Args:
        folder: Folder of an evaluation, or of a run with an evaluation in it.
        name: Name in the report.

    Raises:
        UserError: If there is none.
    """
    for place in (folder, folder / "evaluation"):
        if (place / "summary.json").is_file() and (place / "metrics.csv").is_file():
            try:
                summary = json.loads(read_text(place / "summary.json"))
                check_plain(summary, "summary")
                _check(summary)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                # A run keeps a copy of its evaluation's summary beside a metrics.csv of its own.
                raise UserError(place / "summary.json", "is no summary of an evaluation") from error
            if (place / "evaluation").is_dir() and place == folder:
                continue
            return Evaluation(name, place, summary)
    raise UserError(
        folder,
        "holds no evaluation",
        allowed="a folder that `ddpm-lightning evaluate` left, with summary.json and metrics.csv",
        remedy=f"evaluate first: {command_of('evaluate', checkpoint=folder / 'checkpoints' / 'best.ckpt')}",
    )


def _check(summary: dict[str, Any]) -> None:
    """Raises a KeyError or a TypeError where something is missing that a report shows."""
    for key in (
        "protocol",
        "estimators",
        "data",
        "split",
        "images",
        "preset",
        "nfe_per_sample",
        "seed",
    ):
        _ = summary[key]
    _ = summary["checkpoint"]["sha256"] + summary["checkpoint"]["file"], summary["samples"] + 0
    _ = summary["protocol"] + "", summary["images"] + 0
    _ = dict(summary["versions"]), [sentence + "" for sentence in summary.get("in_words", [])]
    for view in summary.get("viewer_images", []):
        _ = view["image"] + "", [name + file for name, file in view["files"].items()]
        numbers = [
            *view["size"],
            *(number for number in (view["pixel_size"], view["std_full"]) if number is not None),
        ]
        if len(view["size"]) != 2 or not all(number >= 0 for number in numbers):
            raise ValueError("a view has no size")


def report_page(evaluations: Sequence[Evaluation], title: str) -> str:
    """Returns the page as HTML.

    Args:
        evaluations: What is reported, in order.
        title: Title of the page.
    """
    script = (PAGE / "viewer.js").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(title),
        "style": (PAGE / "style.css").read_text(encoding="utf-8"),
        "script": script,
        # The browser runs no other script, whatever the page contains.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        "first": _first(evaluations),
        "numbers": _numbers(evaluations),
        "viewer_images": _in_script(_viewer_images(evaluations)),
        "figures": "\n".join(_figures(evaluation) for evaluation in evaluations),
        "how": "\n".join(_how(evaluation) for evaluation in evaluations),
    }
    return Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(parts)


def _first(evaluations: Sequence[Evaluation]) -> str:
    """Returns a warning if no difference can be significant, to be shown first; else an empty text."""
    try:
        comparison = _compared(evaluations, averages_alone=len(evaluations) > 1)
        # A page of one evaluation asks whether its average differs from the noisy image, and from one sample.
        methods, pairs = (2, 1) if len(evaluations) == 1 else (len(comparison.methods), comparison.pairs)
        found = [too_few_fields(comparison.fields, methods, pairs)]
    except UserError:
        # They are of different images, so each is considered by itself.
        found = dict.fromkeys(too_few_fields(_compared([one]).fields, 2, 1) for one in evaluations)
    return "".join(f'<p class="warning">{html.escape(text)}</p>' for text in found if text)


def _marked_up(text: str) -> str:
    """Returns the HTML of a sentence with bold and code parts in Markdown."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _numbers(evaluations: Sequence[Evaluation]) -> str:
    """Returns one table if the evaluations can be compared, else a table for each and the reason."""
    if len(evaluations) == 1:
        return _table(_compared(evaluations), "")
    try:
        comparison = _compared(evaluations)
    except UserError as error:
        reason = f'<p class="note">Not in one table: {html.escape(str(error))}</p>'
        return reason + "".join(_table(_compared([one]), one.name) for one in evaluations)
    significant, others = [], []
    # Only averages are compared: every further pair makes the tests stricter, and differences from the input or from
    # single samples are of no interest here.
    for line in in_words(_compared(evaluations, averages_alone=True)):
        (significant if "better" in line or "larger" in line else others).append(
            f"<li>{html.escape(line)}</li>"
        )
    found = f"<ul>{''.join(significant)}</ul>" if significant else "<p>None.</p>"
    rest = (
        f"<details><summary>What is not significant</summary><ul>{''.join(others)}</ul></details>"
        if others
        else ""
    )
    return f"{_table(comparison, '')}<h3>Which differences are significant</h3>{found}{rest}"


def _compared(evaluations: Sequence[Evaluation], averages_alone: bool = False) -> Comparison:
    """Compares averages, with the noisy images and single samples beside them unless averages alone are wanted."""
    first = evaluations[0]
    chosen = [] if averages_alone else [("raw", f"{first.folder / 'metrics.csv'}:raw")]
    for one in evaluations:
        samples = one.summary["samples"]
        name = f"{one.name}, average of {samples}" if samples > 1 else one.name
        chosen.append((name, f"{one.folder / 'metrics.csv'}:average"))
        if samples > 1 and not averages_alone:
            chosen.append((f"{one.name}, one sample", f"{one.folder / 'metrics.csv'}:single"))
    methods = read_methods([file for _, file in chosen], "average", [name for name, _ in chosen])
    return compare(methods)


def _table(comparison: Comparison, caption: str) -> str:
    """Returns a table of medians with intervals; the best of each metric is marked."""
    metrics = [
        m for m in comparison.metrics if any(comparison.estimates[x.name, m] for x in comparison.methods)
    ]
    heads = "".join(f'<th scope="col">{html.escape(m)} {ARROWS.get(m, "")}</th>' for m in metrics)
    best = {metric: _best(comparison, metric) for metric in metrics}
    lines = []
    for method in comparison.methods:
        cells = []
        for metric in metrics:
            found = comparison.estimates[method.name, metric]
            mark = ' class="best"' if best[metric] == method.name else ""
            cells.append(f"<td{mark}>{_cell(found)}</td>")
        lines.append(f'<tr><th scope="row">{html.escape(method.name)}</th>{"".join(cells)}</tr>')
    about = (
        f"{html.escape(caption)} {comparison.images} images of {comparison.fields} fields of view, protocol "
        f"{html.escape(comparison.methods[0].protocol)}, truth: {html.escape(comparison.methods[0].truth)}: median "
        "[95 % interval]"
    )
    meanings = [f"{name}: {text}" for name, text in SAMPLE_MEANINGS.items() if name in metrics]
    note = f'<p class="note">{html.escape("; ".join(meanings))}.</p>' if meanings else ""
    return (
        f'<div class="wide"><table><caption>{about}</caption><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}"
    )


def _best(comparison: Comparison, metric: str) -> str | None:
    if not ARROWS.get(metric):
        return None
    found = [(e.median, m.name) for m in comparison.methods if (e := comparison.estimates[m.name, metric])]
    return (min if ARROWS[metric] == "↓" else max)(found, default=(0, None))[1]


def _cell(found: Estimate | None) -> str:
    if found is None:
        return "absent"
    ends = found.median_interval
    between = f"<small>[{ends[0]:.4g}, {ends[1]:.4g}]</small>" if ends else ""
    return f"{found.median:.4g} {between}"


def _viewer_images(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Returns the viewer images by image, with those of every evaluation of the image."""
    images: dict[str, dict[str, Any]] = {}
    for one in evaluations:
        for view in one.summary.get("viewer_images", []):
            files = {name: _embedded(one.folder, file) for name, file in view["files"].items()}
            # Two evaluations may use the same name for different images: the data set is part of the key.
            key = f"{one.summary['data']} {one.summary['split']} {view['image']}"
            entry = images.setdefault(key, {"name": key, "size": view["size"], "methods": []})
            about = {"name": one.name, "pixel_size": view["pixel_size"], "std_full": view["std_full"]}
            entry["methods"].append({**about, "files": {n: data for n, data in files.items() if data}})
    for entry in images.values():
        _use_common_scale(entry)
    return list(images.values())


def _use_common_scale(image: dict[str, Any]) -> None:
    """Puts the standard deviations of an image on the scale of the method with the largest."""
    having_std = [method for method in image["methods"] if "std" in method["files"]]
    image["std_full"] = full = max((method["std_full"] or 0.0 for method in having_std), default=0.0)
    for method in having_std:
        own = method["std_full"] or 0.0
        if own == full:
            continue
        try:
            content = base64.b64decode(method["files"]["std"].removeprefix(ADDRESS))
            method["files"]["std"] = ADDRESS + base64.b64encode(rescaled(content, own / full)).decode("ascii")
        except ValueError:
            del method["files"]["std"]  # on its own scale, it would mislead


def _figures(evaluation: Evaluation) -> str:
    found = []
    for name, text in FIGURES.items():
        if data := _embedded(evaluation.folder, f"figures/{name}"):
            found.append(f'<figure><img src="{data}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    sentences = "".join(f"<li>{_marked_up(line)}</li>" for line in evaluation.summary.get("in_words", []))
    if not found and not sentences:
        return ""
    summary = f"<summary>{html.escape(evaluation.name)}</summary>"
    return f"<details open>{summary}<ul>{sentences}</ul>{''.join(found)}</details>"


def _how(evaluation: Evaluation) -> str:
    summary = evaluation.summary
    facts = {
        "model": (summary["checkpoint"].get("names") or {}).get("model") or "unknown",
        "data": f"{summary['data']}, split {summary['split']}, {summary['images']} images",
        "protocol": summary["protocol"],
        "truth": summary.get("truth", "recorded"),
        "samples": f"{summary['samples']}, {summary['preset']}, "
        f"{summary.get('nfe', summary['samples'] * summary['nfe_per_sample'])} network evaluations",
        "seed": summary["seed"],
        "checkpoint": f"{summary['checkpoint']['file']}, sha256 {summary['checkpoint']['sha256'][:16]}…",
        "LPIPS backbone": summary.get("lpips_backbone") or "absent",
        "versions": ", ".join(f"{name} {number}" for name, number in summary["versions"].items()),
    }
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(str(text))}</dd>" for name, text in facts.items())
    return f"<h3>{html.escape(evaluation.name)}</h3><dl>{lines}</dl>"


def _embedded(folder: Path, name: str) -> str:
    """Returns an image as a data URL; empty if there is none inside the folder of the evaluation."""
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents or not path.is_file():
        return ""
    content = path.read_bytes()
    if not content.startswith(PNG):
        return ""
    return ADDRESS + base64.b64encode(content).decode("ascii")


def _in_script(value: Any) -> str:
    """Returns JSON that can be embedded in a script element: it contains no tags."""
    text = json.dumps(value)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
