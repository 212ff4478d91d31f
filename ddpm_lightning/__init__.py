"""Restoration of microscopy images with conditional diffusion models (arXiv 2409.12078).

>>> import ddpm_lightning as dl
>>> restorer = dl.Restorer.load("default")                        # doctest: +SKIP
>>> restored = restorer.restore(noisy, pixel_size=0.1)            # doctest: +SKIP
>>> restored.mean, restored.std, restored.warnings                # doctest: +SKIP
>>> data = dl.dataset("folder", root="my_data")                   # doctest: +SKIP
>>> run = dl.fit(dl.method("pmrf_small"), data, max_steps=5000)   # doctest: +SKIP

Public names are imported when they are first used, so that restoring does not wait for what only training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddpm_lightning.utils import torchvision_remedy
from ddpm_lightning.utils.version import __version__

if TYPE_CHECKING:
    from ddpm_lightning.checkpoints.load import Trained as TrainedMethod
    from ddpm_lightning.checkpoints.load import load as load_method
    from ddpm_lightning.data.datamodule import PairDataModule
    from ddpm_lightning.data.pairs import Pair
    from ddpm_lightning.evaluation.evaluate import evaluate
    from ddpm_lightning.evaluation.settings import EvaluateSettings
    from ddpm_lightning.inference.restoration import Restoration
    from ddpm_lightning.inference.restore_folder import RestoredFolder, RestoreSettings, restore_folder
    from ddpm_lightning.inference.restorer import Restorer
    from ddpm_lightning.inference.restorer_settings import RestorerSettings
    from ddpm_lightning.models.method import Method, apply_directly, size_divisor_of
    from ddpm_lightning.training.fit import resume
    from ddpm_lightning.training.from_python import (
        DatasetDescription,
        MethodDescription,
        dataset,
        finetuned,
        fit,
        method,
    )
    from ddpm_lightning.training.module import LightningMethod
    from ddpm_lightning.training.settings import Run
    from ddpm_lightning.utils.errors import UserError

__all__ = [
    "DatasetDescription",
    "EvaluateSettings",
    "LightningMethod",
    "Method",
    "MethodDescription",
    "Pair",
    "PairDataModule",
    "Restoration",
    "RestoreSettings",
    "RestoredFolder",
    "Restorer",
    "RestorerSettings",
    "Run",
    "TrainedMethod",
    "UserError",
    "__version__",
    "apply_directly",
    "dataset",
    "evaluate",
    "finetuned",
    "fit",
    "load_method",
    "method",
    "restore_folder",
    "resume",
    "size_divisor_of",
]

#: Module of each public name, and its name there.
_PLACES = {
    "DatasetDescription": ("training.from_python", "DatasetDescription"),
    "EvaluateSettings": ("evaluation.settings", "EvaluateSettings"),
    "LightningMethod": ("training.module", "LightningMethod"),
    "Method": ("models.method", "Method"),
    "MethodDescription": ("training.from_python", "MethodDescription"),
    "Pair": ("data.pairs", "Pair"),
    "PairDataModule": ("data.datamodule", "PairDataModule"),
    "Restoration": ("inference.restoration", "Restoration"),
    "RestoreSettings": ("inference.restore_folder", "RestoreSettings"),
    "RestoredFolder": ("inference.restore_folder", "RestoredFolder"),
    "Restorer": ("inference.restorer", "Restorer"),
    "RestorerSettings": ("inference.restorer_settings", "RestorerSettings"),
    "Run": ("training.settings", "Run"),
    "TrainedMethod": ("checkpoints.load", "Trained"),
    "UserError": ("utils.errors", "UserError"),
    "apply_directly": ("models.method", "apply_directly"),
    "dataset": ("training.from_python", "dataset"),
    "evaluate": ("evaluation.evaluate", "evaluate"),
    "finetuned": ("training.from_python", "finetuned"),
    "fit": ("training.from_python", "fit"),
    "load_method": ("checkpoints.load", "load"),
    "method": ("training.from_python", "method"),
    "restore_folder": ("inference.restore_folder", "restore_folder"),
    "resume": ("training.fit", "resume"),
    "size_divisor_of": ("models.method", "size_divisor_of"),
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
