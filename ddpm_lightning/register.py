"""The classes that a file may name: checkpoints, packed models and the ``config.yaml`` of runs come from strangers.

A description names a class by its dotted path. Only the paths below are ever imported, each as it is written here:
no other attribute of a module, no second name of a class, and no function can be reached. Each class is of a kind, and
each kind may hold descriptions of certain kinds only, so a data set cannot stand where a sampler belongs.

Whoever uses the program may trust further packages by name (``trust=mylab``): then classes that are defined in them
are admitted as well.
"""

import importlib
from collections.abc import Iterable, Sequence

from ddpm_lightning.errors import UserError, nearest

__all__ = ["FORMER", "HOLDS", "REGISTER", "check_name", "kind_of", "registered_class", "trusted_packages"]

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
    # Optimisers are factories: `_partial_: true` leaves the parameters to be given.
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
        "ddpm_lightning.models.optimisation.Cosine",
        "ddpm_lightning.models.optimisation.LinearFall",
        "ddpm_lightning.models.optimisation.Plateau",
        "ddpm_lightning.models.optimisation.SawTooth",
    ),
    "normalisation": ("ddpm_lightning.data.normalise.PairNormalisation",),
    "normaliser": (
        "ddpm_lightning.data.normalise.FixedRange",
        "ddpm_lightning.data.normalise.Percentile",
    ),
    "data": (
        "ddpm_lightning.data.folder.FolderData",
        "ddpm_lightning.data.microtubules.Microtubules",
        "ddpm_lightning.data.mitochondria.Mitochondria",
        "ddpm_lightning.data.simulated_denoising.SimulatedDenoising",
        "ddpm_lightning.data.simulated_mixture.SimulatedMixture",
        "ddpm_lightning.data.simulated_set.SimulatedData",
        "ddpm_lightning.data.synapses.Synapses",
        "ddpm_lightning.data.zebrafish.Zebrafish",
    ),
    "preparation": ("ddpm_lightning.data.preparation.build.Preparation",),
    "degradation": (
        "ddpm_lightning.data.simulation.degradations.Afterpulsing",
        "ddpm_lightning.data.simulation.degradations.Bandwidth",
        "ddpm_lightning.data.simulation.degradations.CameraPattern",
        "ddpm_lightning.data.simulation.degradations.Crosstalk",
        "ddpm_lightning.data.simulation.degradations.Dose",
        "ddpm_lightning.data.simulation.degradations.Flicker",
        "ddpm_lightning.data.simulation.degradations.LineNoise",
        "ddpm_lightning.data.simulation.degradations.Misregistration",
        "ddpm_lightning.data.simulation.degradations.Photobleaching",
        "ddpm_lightning.data.simulation.degradations.ScanJitter",
        "ddpm_lightning.data.simulation.detector.Scmos",
    ),
    "callback": (
        "ddpm_lightning.callbacks.checkpoints.Checkpoints",
        "ddpm_lightning.callbacks.divergence.Divergence",
        "ddpm_lightning.callbacks.ema.EMA",
        "ddpm_lightning.callbacks.overfit.Overfit",
        "ddpm_lightning.callbacks.pace.Pace",
        "ddpm_lightning.callbacks.preemption.Preemption",
        "ddpm_lightning.callbacks.progress.Progress",
        "ddpm_lightning.callbacks.samples.SampledValidation",
        "ddpm_lightning.callbacks.status.Status",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "lightning.pytorch.callbacks.ModelCheckpoint",
    ),
    "logger": (
        "ddpm_lightning.callbacks.run_log.RunLog",
        "ddpm_lightning.callbacks.wandb_log.WandbLog",
        "lightning.pytorch.loggers.TensorBoardLogger",
    ),
    "strategy": ("lightning.pytorch.strategies.DDPStrategy",),
    "profiler": ("lightning.pytorch.profilers.SimpleProfiler",),
}
#: Kinds that may be described inside of another. All others hold plain values only.
HOLDS: dict[str, tuple[str, ...]] = {
    "method": ("method", "network", "schedule", "objective", "sampler", "optimizer", "lr_schedule"),
    "normalisation": ("normaliser",),
    "data": ("normalisation", "preparation", "degradation"),
    "degradation": ("degradation",),
}
#: Names that checkpoints of earlier versions use, where a schedule was a function, and the classes in their place.
FORMER = {
    f"ddpm_lightning.models.optimisation.{function}": f"ddpm_lightning.models.optimisation.{name}"
    for function, name in (
        ("cosine", "Cosine"),
        ("linear_fall", "LinearFall"),
        ("plateau", "Plateau"),
        ("saw_tooth", "SawTooth"),
    )
}
_KINDS = {name: kind for kind, names in REGISTER.items() for name in names}


def kind_of(name: object) -> str | None:
    """Returns the kind of a registered class, by its dotted path or the path that it had earlier."""
    return _KINDS.get(FORMER.get(name, name)) if isinstance(name, str) else None


def check_name(name: object, kinds: Iterable[str] | None = None, trust: Sequence[str] = ()) -> None:
    """Refuses a class that may not be named, without importing it.

    Args:
        name: Its dotted path.
        kinds: Kinds that are allowed in its place; by default all.
        trust: Top-level packages whose classes are admitted in any place.

    Raises:
        UserError: If it is not registered and not of a trusted package, or is of another kind.
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
    """Returns a class that may be named; for the arguments see :func:`check_name`.

    Raises:
        UserError: If it may not be named, or what a trusted package has under that name is no class of its own.
    """
    check_name(name, kinds, trust)
    if not kind_of(name):
        return _trusted_class(name, name.partition(".")[0])
    module, _, attribute = FORMER.get(name, name).rpartition(".")
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
    # What a trusted module has imported from elsewhere is not trusted with it.
    if not isinstance(found, type) or found.__module__.partition(".")[0] != package:
        raise UserError(
            f"_target_: {name}", f"is no class that {package} defines", allowed=f"classes of {package}"
        )
    return found


def _refused(name: object, package: str) -> UserError:
    near = nearest(name[:100], _KINDS, least=0.85) if isinstance(name, str) else []
    remedy = f"did you mean {near[0]}? " if near and near[0].partition(".")[0] == package else ""
    if package.isidentifier() and package != "ddpm_lightning":
        remedy += f"if you trust the code of {package}, add trust={package}"
    return UserError(
        f"_target_: {str(name)[:200]}",
        "is not allowed here: it is no class that a file may name",
        allowed="the classes that this program registers, and those of packages that you trust",
        remedy=remedy,
    )


def trusted_packages(given: object) -> tuple[str, ...]:
    """Returns the packages of the setting ``trust``: a name, several with commas between them, or a list of them.

    Raises:
        UserError: If something else than names of top-level packages is given.
    """
    names = given.split(",") if isinstance(given, str) else [] if given is None else given
    if not isinstance(names, Sequence) or not all(
        isinstance(name, str) and name.strip().isidentifier() for name in names
    ):
        raise UserError(
            "trust", f"is {given!r}", allowed="names of top-level packages: trust=mylab, trust=[mylab,other]"
        )
    return tuple(name.strip() for name in names)
