"""The classes that files may refer to: checkpoints, packed models and ``config.yaml`` of runs may come from anyone.

A description names a class by its dotted path. Only the paths below are ever imported, exactly as written here: no
other attribute of a module, no alias of a class, and no function can be reached. Each class has a kind, and each kind
may only contain descriptions of certain kinds, so a data set cannot be used as a sampler.

Users can trust further packages by name (``trust=mylab``): classes that are defined in them are then allowed as well.
"""

import importlib
from collections.abc import Iterable, Sequence

from ddpm_lightning.utils.errors import UserError, nearest

__all__ = ["HOLDS", "REGISTER", "check_name", "kind_of", "registered_class", "trusted_packages"]

#: Classes by kind.
REGISTER: dict[str, tuple[str, ...]] = {
    "method": (
        "ddpm_lightning.models.classical.Classical",
        "ddpm_lightning.models.ddpm.DDPM",
        "ddpm_lightning.models.noise2void.Noise2Void",
        "ddpm_lightning.models.pix2pix.Pix2Pix",
        "ddpm_lightning.models.pmrf.PMRF",
        "ddpm_lightning.models.regression.CARE",
        "ddpm_lightning.models.regression.Regression",
        "ddpm_lightning.models.unet_rcan.UNetRCANRegression",
    ),
    "network": (
        "ddpm_lightning.networks.mp_unet.MPUNet",
        "ddpm_lightning.networks.pix2pix.PatchDiscriminator",
        "ddpm_lightning.networks.pix2pix.Pix2PixGenerator",
        "ddpm_lightning.networks.unet.UNet",
        "ddpm_lightning.networks.unet_rcan.UNetRCAN",
    ),
    "schedule": (
        "ddpm_lightning.diffusion.schedule.CosineSchedule",
        "ddpm_lightning.diffusion.schedule.LinearSchedule",
    ),
    "objective": ("ddpm_lightning.diffusion.objective.Objective",),
    "sampler": (
        "ddpm_lightning.diffusion.dpm_solver.DPMSolver",
        "ddpm_lightning.diffusion.flow.Euler",
        "ddpm_lightning.diffusion.samplers.Ancestral",
        "ddpm_lightning.diffusion.samplers.DDIM",
        "ddpm_lightning.diffusion.samplers.OneStep",
    ),
    # Optimisers are factories: with `_partial_: true`, they still take the parameters.
    "optimizer": (
        "torch.optim.Adadelta",
        "torch.optim.Adagrad",
        "torch.optim.Adam",
        "torch.optim.AdamW",
        "torch.optim.Adamax",
        "torch.optim.NAdam",
        "torch.optim.RAdam",
        "torch.optim.RMSprop",
        "torch.optim.SGD",
    ),
    "lr_schedule": (
        "ddpm_lightning.training.lr_schedules.Cosine",
        "ddpm_lightning.training.lr_schedules.LinearFall",
        "ddpm_lightning.training.lr_schedules.Plateau",
        "ddpm_lightning.training.lr_schedules.SawTooth",
    ),
    "normalisation": ("ddpm_lightning.data.normalise.PairNormalisation",),
    "normaliser": (
        "ddpm_lightning.data.normalise.FixedRange",
        "ddpm_lightning.data.normalise.Percentile",
    ),
    "data": (
        "ddpm_lightning.datasets.folder.FolderData",
        "ddpm_lightning.datasets.microtubules.Microtubules",
        "ddpm_lightning.datasets.mitochondria.Mitochondria",
        "ddpm_lightning.datasets.simulated_denoising.SimulatedDenoising",
        "ddpm_lightning.datasets.simulated_mixture.SimulatedMixture",
        "ddpm_lightning.datasets.simulated_set.SimulatedData",
        "ddpm_lightning.datasets.synapses.Synapses",
        "ddpm_lightning.datasets.zebrafish.Zebrafish",
    ),
    "preparation": ("ddpm_lightning.datasets.preparation.build.Preparation",),
    "degradation": (
        "ddpm_lightning.simulation.degradations.Afterpulsing",
        "ddpm_lightning.simulation.degradations.Bandwidth",
        "ddpm_lightning.simulation.degradations.CameraPattern",
        "ddpm_lightning.simulation.degradations.Crosstalk",
        "ddpm_lightning.simulation.degradations.Dose",
        "ddpm_lightning.simulation.degradations.Flicker",
        "ddpm_lightning.simulation.degradations.LineNoise",
        "ddpm_lightning.simulation.degradations.Misregistration",
        "ddpm_lightning.simulation.degradations.Photobleaching",
        "ddpm_lightning.simulation.degradations.ScanJitter",
        "ddpm_lightning.simulation.detector.Scmos",
    ),
    "callback": (
        "ddpm_lightning.callbacks.checkpoints.Checkpoints",
        "ddpm_lightning.callbacks.divergence.Divergence",
        "ddpm_lightning.callbacks.ema.EMA",
        "ddpm_lightning.callbacks.overfit.Overfit",
        "ddpm_lightning.callbacks.step_time.Pace",
        "ddpm_lightning.callbacks.preemption.Preemption",
        "ddpm_lightning.callbacks.progress.Progress",
        "ddpm_lightning.callbacks.validation_metrics.ValidationMetrics",
        "ddpm_lightning.callbacks.status.Status",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "lightning.pytorch.callbacks.ModelCheckpoint",
    ),
    "logger": (
        "ddpm_lightning.callbacks.csv_log.RunLog",
        "ddpm_lightning.callbacks.wandb_log.WandbLog",
        "lightning.pytorch.loggers.TensorBoardLogger",
    ),
    "strategy": ("lightning.pytorch.strategies.DDPStrategy",),
    "profiler": ("lightning.pytorch.profilers.SimpleProfiler",),
}
#: Kinds that each kind may contain. All others contain plain values only.
HOLDS: dict[str, tuple[str, ...]] = {
    "method": ("method", "network", "schedule", "objective", "sampler", "optimizer", "lr_schedule"),
    "normalisation": ("normaliser",),
    "data": ("normalisation", "preparation", "degradation"),
    "degradation": ("degradation",),
}
_KINDS = {name: kind for kind, names in REGISTER.items() for name in names}


def kind_of(name: object) -> str | None:
    """Returns the kind of a registered class, by its dotted path."""
    return _KINDS.get(name) if isinstance(name, str) else None


def check_name(name: object, kinds: Iterable[str] | None = None, trust: Sequence[str] = ()) -> None:
    """Rejects a class that is not allowed, without importing it.

    Args:
        name: Its dotted path.
        kinds: Kinds that are allowed in its place; by default all.
        trust: Top-level packages whose classes are allowed anywhere.

    Raises:
        UserError: If it is neither registered nor from a trusted package, or is of the wrong kind.
    """
    kind = kind_of(name)
    if kind is None:
        package = name.partition(".")[0] if isinstance(name, str) else ""
        if package not in trust or "." not in name:
            raise _refused(name, package)
    elif kinds is not None and kind not in kinds:
        raise UserError(
            f"_target_: {name}",
            f"is of the kind {kind}",
            allowed=" or ".join(kinds) or "plain values, no class",
        )


def registered_class(name: object, kinds: Iterable[str] | None = None, trust: Sequence[str] = ()) -> type:
    """Returns an allowed class; for the arguments see :func:`check_name`.

    Raises:
        UserError: If it is not allowed, or is not a class that the trusted package itself defines.
    """
    check_name(name, kinds, trust)
    if not kind_of(name):
        return _trusted_class(name, name.partition(".")[0])
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _trusted_class(name: str, package: str) -> type:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"_target_: {name}",
            f"cannot be found: {error}",
            remedy=f"install {package}, or put its folder on PYTHONPATH",
        ) from error
    # Classes that a trusted module imports from elsewhere are not trusted.
    if not isinstance(found, type) or found.__module__.partition(".")[0] != package:
        raise UserError(
            f"_target_: {name}", f"is not a class that {package} defines", allowed=f"classes of {package}"
        )
    return found


def _refused(name: object, package: str) -> UserError:
    near = nearest(name[:100], _KINDS, least=0.85) if isinstance(name, str) else []
    remedy = f"did you mean {near[0]}? " if near and near[0].partition(".")[0] == package else ""
    if package.isidentifier() and package != "ddpm_lightning":
        remedy += f"if you trust the code of {package}, add trust={package}"
    return UserError(
        f"_target_: {str(name)[:200]}",
        "is not allowed here: files may not refer to this class",
        allowed="the classes that this program registers, and those of packages that you trust",
        remedy=remedy,
    )


def trusted_packages(given: object) -> tuple[str, ...]:
    """Returns the packages of the setting ``trust``: a name, several separated by commas, or a list.

    Raises:
        UserError: If it contains anything but names of top-level packages.
    """
    names = given.split(",") if isinstance(given, str) else [] if given is None else given
    if not isinstance(names, Sequence) or not all(
        isinstance(name, str) and name.strip().isidentifier() for name in names
    ):
        raise UserError(
            "trust", f"is {given!r}", allowed="names of top-level packages: trust=mylab, trust=[mylab,other]"
        )
    return tuple(name.strip() for name in names)
