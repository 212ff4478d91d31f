"""The report of an audit: ``audit.md``, and ``audit.png`` with some of the images."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ddpm_lightning.data.pairs import Pair, PairSource
from ddpm_lightning.datasets.audit import Audit, SplitAudit
from ddpm_lightning.datasets.preparation.files import write_file
from ddpm_lightning.datasets.preparation.manifest import Manifest
from ddpm_lightning.simulation.contact_sheet import contact_sheet
from ddpm_lightning.utils.errors import UserError

__all__ = ["markdown", "write_audit"]

#: Rows of the table: the title, and the text for a split.
ROWS = (
    ("pairs", lambda split: f"{split.pairs}"),
    (
        "fields of view",
        lambda split: f"{split.fields}" + " (not known: each file is one)" * (not split.fields_known),
    ),
    (
        "size (px)",
        lambda split: ", ".join(f"{h} x {w}" for h, w in split.sizes[:4]) + " …" * (len(split.sizes) > 4),
    ),
    ("type, low / high", lambda split: f"{split.types[0]} / {split.types[1]}"),
    ("bits in use, low / high", lambda split: f"{_bits(split.low[2])} / {_bits(split.high[2])}"),
    ("low: minimum, median, maximum", lambda split: _range(split.low)),
    ("high: minimum, median, maximum", lambda split: _range(split.high)),
    ("distinct grey values in a low image", lambda split: f"{split.levels}"),
    ("saturated pixels, maximum", lambda split: f"{split.saturated:.2%}"),
    ("zero in both images, maximum", lambda split: f"{split.padding:.2%}"),
    ("correlation of low and high", lambda split: f"{split.correlation:.3f}"),
    ("residual shift (px): median, maximum", lambda split: _shifts(split)),
)


def write_audit(
    folder: Path,
    name: str,
    audit: Audit,
    sources: Mapping[str, PairSource],
    facts: str = "",
    manifest: Manifest | None = None,
) -> Path:
    """Writes ``audit.md`` and its contact sheet.

    Args:
        folder: The folder.
        name: Name of the data set.
        audit: The audit.
        sources: Pairs by split, for the contact sheet.
        facts: Facts about the set, as Markdown.
        manifest: Its manifest, if it was prepared.

    Returns:
        The file ``audit.md``.
    """
    chosen = {split: pairs for split, source in sources.items() if (pairs := _some(source))}
    if chosen:
        image = io.BytesIO()
        contact_sheet(chosen, samples=min(map(len, chosen.values()))).savefig(image, format="png", dpi=130)
        write_file(folder / "audit.png", image.getvalue())
    path = folder / "audit.md"
    write_file(path, markdown(name, audit, facts, manifest, bool(chosen)).encode())
    return path


def markdown(
    name: str, audit: Audit, facts: str = "", manifest: Manifest | None = None, sheet: bool = False
) -> str:
    """Returns the text of ``audit.md``."""
    lines = [f"# {name}", "", *([facts, ""] if facts else [])]
    lines += ["| | " + " | ".join(audit.splits) + " |", "| --- " * (len(audit.splits) + 1) + "|"]
    for title, text in ROWS:
        lines.append(f"| {title} | " + " | ".join(text(split) for split in audit.splits.values()) + " |")
    measured = max((len(split.shifts) for split in audit.splits.values()), default=0)
    lines += [
        "",
        f"The residual shift was measured on at most {measured} pairs of each split, to a tenth of a pixel.",
        "",
    ]
    lines += _listed("Errors", audit.errors) + _listed("Warnings", audit.warnings)
    if manifest:
        lines += _preparation(manifest)
    if sheet:
        lines += ["![low and high images of each split](audit.png)", ""]
    return "\n".join(lines)


def _preparation(manifest: Manifest) -> list[str]:
    source = manifest["source"]
    lines = ["## Preparation", "", f"- made from {source['name']} (sha256 {source['sha256']})"]
    lines += [f"- {key}: {value}" for key, value in manifest["settings"].items()]
    motions = [pair["motion"] for pair in manifest["pairs"] if pair["motion"]]
    if motions:
        moved = [motion for motion in motions if motion["applied"]]
        shifts = [np.hypot(motion["down"], motion["right"]) for motion in motions]
        lines.append(
            f"- registered: {len(moved)} of {len(motions)} pairs were moved; shift {np.median(shifts):.2f} px "
            f"(median), {max(shifts):.2f} px (maximum); angle at most "
            f"{max(abs(motion['angle']) for motion in motions):.2f}°"
        )
    if manifest["background_crops"]:
        lines.append(f"- {manifest['background_crops']} crops were left out as background")
    lines += [
        "",
        *_listed("Left out", [f"{entry['low']}: {entry['reason']}" for entry in manifest["left_out"]]),
    ]
    if manifest["published"]:
        differences = manifest["differences"] or ["the sizes of the splits are those of the paper"]
        lines += _listed("Compared with the published sizes", differences)
    return lines


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {text}" for text in texts or ["none"]), ""]


def _some(source: PairSource, count: int = 3) -> list[Pair]:
    """Returns some readable pairs, evenly spaced."""
    pairs = []
    for index in dict.fromkeys(np.linspace(0, len(source) - 1, count).round().astype(int).tolist()):
        try:
            pairs.append(source[index])
        except UserError:
            continue
    return pairs


def _bits(largest: float) -> int:
    return max(int(np.ceil(np.log2(largest + 1))), 1) if largest > 0 else 0


def _range(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _shifts(split: SplitAudit) -> str:
    return f"{np.median(split.shifts):.2f}, {max(split.shifts):.2f}" if split.shifts else "not measured"
