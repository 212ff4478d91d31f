"""Scores a trained model on a data split: raw images, single samples, and the restored image (average).

Examples:
  ddpm-lightning evaluate checkpoint=runs/demo/checkpoints/best.ckpt
  ddpm-lightning evaluate checkpoint=CKPT data=folder data.root=DIR split=test samples=15 protocol=affine
  ddpm-lightning evaluate checkpoint=CKPT also=[paper,affine] metrics.resolution=true processes=4
  ddpm-lightning evaluate checkpoint=CKPT split=val calibrate=true
  ddpm-lightning evaluate checkpoint=CKPT split=val calibrate=true readout=[count,filament_length]
  ddpm-lightning evaluate checkpoint=CKPT data=simulated_zebrafish truth=clean
  ddpm-lightning evaluate checkpoint=CKPT realism=[0,0.25,0.5,0.75,1]
  ddpm-lightning evaluate checkpoint=CKPT preset=realistic output=evaluations/realistic
  ddpm-lightning evaluate checkpoint=CKPT sampler=ddim sampler.steps=10 output=evaluations/ddim
  torchrun --nproc_per_node 8 -m ddpm_lightning evaluate checkpoint=CKPT

preset=NAME selects a sampler and a number of samples: mean (the default), paper, uncertainty, realistic, fast or
one_step for diffusion models; mean (the default), realistic, balanced, fast, one_step and, with residual_flow,
uncertainty for flows; mean (the default), uncertainty or realistic for scored; one_pass for all others. samples=N and
sampler=ancestral, ddim, dpm_solver, one_step, euler, midpoint, heun or stored (with sampler.steps=N and so on) take
precedence.

Leaves in the output folder: summary.md (to read), summary.json, metrics.csv (a row for each image and estimator),
metrics_PROTOCOL.csv for each further protocol, uncertainty.csv, readouts.csv on request, figures/. calibrate=true
measures how large the error is compared with the standard deviation, and writes this factor, and those of intervals,
into the checkpoint itself: restore uses them for results that are made in the same way, and later evaluations report
how well they hold.
Images that cannot be scored are listed, and the exit code is then 3.
"""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.evaluation.settings import FileName
from ddpm_lightning.evaluation.tables import summary_markdown
from ddpm_lightning.reporting.evaluation_folder import EvaluationFolderSettings, evaluate_into_folder
from ddpm_lightning.utils.errors import printable

__all__ = ["EvaluateCommand", "evaluate_configured", "run"]


class EvaluateCommand(EvaluationFolderSettings):
    """Which model is scored, on which data, how, and where the results are written.

    Attributes:
        checkpoint: A checkpoint file, or the name of a shipped model.
        data: Description of the data, or ``None`` for those that the model was trained on.
    """

    checkpoint: FileName
    data: dict[str, Any] | None = None


def run(config: DictConfig) -> int:
    """Evaluates as the configuration says and prints the table; returns 3 if images could not be scored."""
    folder, summary = evaluate_configured(config)
    if not summary:
        return 0
    print(
        printable(f"\n{summary_markdown(summary)}\nresults in {folder}; start with {folder / 'summary.md'}")
    )
    named = summary["checkpoint"]["evaluation"]
    if named and HydraConfig.get().runtime.choices.get("evaluation") != named:
        print(
            printable(
                f"note: the experiment of this model is scored by evaluation={named}, which was not used"
            )
        )
    return 3 if summary["failed"] else 0


def evaluate_configured(config: DictConfig) -> tuple[Path, dict[str, Any]]:
    """Evaluates as the configuration says; returns the folder and the content of ``summary.json``."""
    settings = compose.settings(config, EvaluateCommand)
    return evaluate_into_folder(settings.checkpoint, settings.data, settings)
