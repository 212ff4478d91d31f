"""Restoration of microscopy images with conditional diffusion models (arXiv 2409.12078).

>>> import ddpm_lightning as dl
>>> restorer = dl.Restorer.load("default")                        # doctest: +SKIP
>>> restored = restorer.restore(noisy, pixel_size=0.1)            # doctest: +SKIP
>>> restored.mean, restored.std, restored.warnings                # doctest: +SKIP
>>> dl.restore_folder(checkpoint="default", input="noisy", output="restored")   # doctest: +SKIP

Public names are imported when they are first used, so that restoring does not wait for what only training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddpm_lightning.utils import torchvision_remedy

if TYPE_CHECKING:
    from ddpm_lightning.checkpoints.load import Trained as TrainedMethod
    from ddpm_lightning.checkpoints.load import load as load_method
    from ddpm_lightning.evaluation.evaluate import evaluate
    from ddpm_lightning.evaluation.settings import EvaluateSettings
    from ddpm_lightning.inference.plane_restorer import RestorerSettings
    from ddpm_lightning.inference.restoration import Restoration
    from ddpm_lightning.inference.restore_folder import RestoredFolder, RestoreSettings, restore_folder
    from ddpm_lightning.inference.restorer import Restorer
    from ddpm_lightning.models.method import Method
    from ddpm_lightning.training.fit import fit, resume
    from ddpm_lightning.training.settings import TrainSettings
    from ddpm_lightning.utils.errors import UserError

__all__ = [
    "EvaluateSettings",
    "Method",
    "Restoration",
    "RestoreSettings",
    "RestoredFolder",
    "Restorer",
    "RestorerSettings",
    "TrainSettings",
    "TrainedMethod",
    "UserError",
    "__version__",
    "evaluate",
    "fit",
    "load_method",
    "restore_folder",
    "resume",
]
__version__ = "0.2.0.dev0"

#: Module of each public name, and its name there.
_PLACES = {
    "EvaluateSettings": ("evaluation.settings", "EvaluateSettings"),
    "Method": ("models.method", "Method"),
    "Restoration": ("inference.restoration", "Restoration"),
    "RestoreSettings": ("inference.restore_folder", "RestoreSettings"),
    "RestoredFolder": ("inference.restore_folder", "RestoredFolder"),
    "Restorer": ("inference.restorer", "Restorer"),
    "RestorerSettings": ("inference.plane_restorer", "RestorerSettings"),
    "TrainSettings": ("training.settings", "TrainSettings"),
    "TrainedMethod": ("checkpoints.load", "Trained"),
    "UserError": ("utils.errors", "UserError"),
    "evaluate": ("evaluation.evaluate", "evaluate"),
    "fit": ("training.fit", "fit"),
    "load_method": ("checkpoints.load", "load"),
    "resume": ("training.fit", "resume"),
    "restore_folder": ("inference.restore_folder", "restore_folder"),
}

torchvision_remedy.install()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
