"""The card of a run or a checkpoint as text: what it was trained on, with which normalisation, how good it is."""

import shlex
from pathlib import Path
from typing import Any

from ddpm_lightning.checkpoints.calibration import calibrations_of
from ddpm_lightning.checkpoints.load import Trained, load
from ddpm_lightning.checkpoints.safetensors_file import shipped_models
from ddpm_lightning.training import two_stage
from ddpm_lightning.training.run_folder import state_of
from ddpm_lightning.utils.allowed_classes import trusted_packages
from ddpm_lightning.utils.atomic import read_json
from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.paths import expanded
from ddpm_lightning.utils.settings import PathText, Settings, Text

__all__ = ["ShowSettings", "model_card"]


class ShowSettings(Settings):
    """What is described.

    Attributes:
        subject: A run folder, a checkpoint, or the name of a shipped model.
        trust: Top-level packages whose classes the file may use, in addition to those registered by this program.
    """

    subject: PathText
    trust: list[Text] = []  # noqa: RUF012  (pydantic copies it)


def model_card(settings: ShowSettings) -> list[str]:
    """Describes a run or a checkpoint: its training, its normalisation and its scores.

    Args:
        settings: What is described.

    Returns:
        Lines of text, which may contain anything that the file contains.

    Raises:
        UserError: If the subject does not exist, or its checkpoint cannot be used.
    """
    path = shipped_models().get(settings.subject, expanded(settings.subject))
    if not path.exists():
        raise UserError(path, "is neither a run folder nor a checkpoint: there is no such file")
    folder = path if path.is_dir() else path.parent.parent
    checkpoint = path
    if path.is_dir():
        there = [path / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
        found = [one for one in there if one.is_file()]
        if not found:
            raise UserError(
                path, "contains no checkpoints/best.ckpt", remedy="pass a run folder, or a checkpoint"
            )
        checkpoint = found[0]
    trained = load(checkpoint, trust=trusted_packages(settings.trust))
    status = read_json(folder / "status.json")
    lines = [f"{checkpoint}", f"  sha256         {trained.sha256}"]
    try:
        lines += (
            _about(trained.card.get("about") or {})
            + _made(trained)
            + _fitted(trained)
            + _origin(trained.card.get("provenance") or {})
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            checkpoint,
            f"is damaged: its card cannot be read ({type(error).__name__}: {error})",
            remedy="copy it again",
        ) from error
    try:
        first = read_json(folder / two_stage.FOLDER / "status.json")
        lines += [f"  regressor      {_reached(first, state_of(folder / two_stage.FOLDER))}"] if first else []
        return [*lines, *(_state(status, state_of(folder)) if status else []), *_scores(folder)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return [*lines, "  run            status.json or summary.json is damaged"]


def _made(trained: Trained) -> list[str]:
    card, method = trained.card, trained.method
    parameters = sum(parameter.numel() for parameter in method.parameters())
    config = card.get("config", {})
    lines = [
        f"  model          {card['names']['model']} ({parameters:,} parameters)",
        f"  samples        {method.preset}",
        f"  trained on     {card.get('data_name', card['names']['data'])}{_where(card['data'])}",
    ]
    lines += [
        f"  std factor     {one.std_factor:.2f}{f' for {one.samples} samples' * bool(one.samples)} ({one.sampling}), "
        f"from {one.origin}"
        for one in calibrations_of(card)
    ]
    if trainer := config.get("trainer"):
        data = card["data"]
        lines.append(
            f"  training       {_steps(trained, trainer['max_steps'])} of {data['batch_size']} crops of"
            f" {data['crop']} px, seed {config['seed']}"
        )
    if card.get("pixel_size_um"):
        lines.append(f"  pixel size     {card['pixel_size_um']:g} µm")
    return lines


def _steps(trained: Trained, total: int) -> str:
    """Says how many of the planned steps the weights were trained for, in each stage."""
    training, stage = trained.card.get("training", {}), trained.method.first_stage
    if trained.step is None:
        return f"{total} steps planned, each"
    if regressor := training.get("regressor"):
        own = _taken(trained.step, training["steps"])
        return f"regressor {_taken(regressor['step'], regressor['steps'])}, flow {own}"
    if "steps" not in training and stage and stage.checkpoint is None:
        # Earlier versions did not record the steps of the regressor.
        return f"flow {_taken(trained.step, total - two_stage.planned_steps(stage, total))}"
    return _taken(trained.step, training.get("steps", total))


def _taken(step: int, steps: int) -> str:
    return f"{step} of {steps} steps" if step < steps else f"{step} steps"


def _where(data: dict[str, Any]) -> str:
    return f" in {data['root']}" if data.get("root") else ""


def _fitted(trained: Trained) -> list[str]:
    """Describes the fitted normalisation: the intensities that become -1 and 1."""
    normalisation = trained.card["normalisation"]
    lines = []
    for role in ("input", "target"):
        if normalisation["config"][role] is None:
            matched = normalisation["config"].get("matched")
            fit = ", fitted by gain and offset" if matched else ""
            lines.append(f"  {role:<14} the scale of its input{fit}")
            continue
        name = normalisation["config"][role]["_target_"].rpartition(".")[2]
        numbers = ", ".join(
            f"{key} {value:.6g}" for key, value in normalisation["state"][role].items() if _plain(value)
        )
        lines.append(f"  {role:<14} {name}{': ' + numbers if numbers else ''}")
    return lines


def _plain(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _origin(origin: dict[str, Any]) -> list[str]:
    if not origin:
        return []
    versions = ", ".join(
        f"{name} {origin['versions'][name]}" for name in ("ddpm_lightning", "torch", "lightning")
    )
    return [
        f"  began          {origin['began']}{_on(origin['machine'])}",
        f"  command        {shlex.join(origin['command'])}",
        f"  commit         {origin['commit'] or 'unknown: not run from a checkout'}",
        f"  versions       {versions}",
        f"  data hash      {origin['data']['sha256']} of {origin['data']['of']}",
    ]


def _on(machine: dict[str, Any] | None) -> str:
    """Names the machine; safetensors files do not contain it."""
    return f" on {machine['name']}" if machine else ""


def _about(about: dict[str, Any]) -> list[str]:
    """Describes a model in the words of its authors, if it was exported."""
    lines = [f"  {key:<14} {about[key]}" for key in ("name", "description", "license") if about.get(key)]
    lines += [f"  by             {', '.join(about['authors'])}"] if about.get("authors") else []
    return lines + [
        f"  cite           {text}: {source}" for text, source in (about.get("cite") or {}).items()
    ]


def _state(status: dict[str, Any], state: str) -> list[str]:
    lines = [f"  run            {_reached(status, state)}"]
    if status.get("error"):
        lines.append(f"  error          {status['error']}")
    for name, value in sorted(status.get("metrics", {}).items()):
        if name.startswith("val/"):
            lines.append(f"  {name:<14} {value:.4g}")
    if status.get("objective") is not None:
        lines.append(f"  best val/loss  {status['objective']:.4g}")
    return lines


def _reached(status: dict[str, Any], state: str) -> str:
    step, steps = status.get("step", 0), status.get("steps", 0)
    if state == "finished" and step < steps:
        state = "stopped"
    of = f" of {steps}" if steps > step else ""
    ended = f", stopped {status['ended']}" if status.get("ended") else ""
    return f"{state} at step {step}{of} after {status.get('seconds', 0):.0f} s{ended}"


def _scores(folder: Path) -> list[str]:
    """Describes the evaluation in the run folder, if there is one."""
    for place in (folder, folder / "evaluation"):
        summary = read_json(place / "summary.json")
        if "estimators" in summary:
            break
    else:
        return ["  scores         none yet: ddpm-lightning evaluate checkpoint=FILE"]
    lines = [
        f"  scores         {summary['images']} images of {summary['split']}, protocol {summary['protocol']}"
    ]
    for name, metrics in summary["estimators"].items():
        medians = [f"{key} {value['median']:.4g}" for key, value in metrics.items() if _has_median(value)]
        lines.append(f"    {name:<12} {', '.join(medians)} (medians)")
    return lines


def _has_median(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("median"), int | float)
