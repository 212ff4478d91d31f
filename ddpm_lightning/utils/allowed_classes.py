"""The classes that a file may refer to.

Checkpoints, exported models and the ``config.yaml`` of a run may come from anyone.

A description names a class by its dotted path. In a *file*, only these paths are imported:

- those of :data:`REGISTER`, exactly as written here: no other attribute of a module, no alias of a class, no function;
- those that an installed plugin registers (entry points of the group ``ddpm_lightning.plugins``);
- classes that are defined in a package that the user trusts by name (``trust=mylab``).

Each registered class has a kind, and each kind may only contain descriptions of certain kinds, so a data set cannot be
used as a sampler.

A configuration that the user wrote may name any class that can be imported. The code that reads a description decides
which case applies: for the user's own configuration it passes :data:`OWN` as trust. Nothing in a file can change this.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any, Final

from ddpm_lightning.utils.errors import UserError, nearest

__all__ = [
    "HOLDS",
    "OWN",
    "PLUGINS",
    "REGISTER",
    "Own",
    "Trust",
    "check_name",
    "kind_of",
    "own_function",
    "registered_class",
    "trusted_packages",
]


class Own:
    """Trust in a configuration that the user wrote: it may name any class."""


OWN: Final = Own()
#: Whose classes a description may name: those of top-level packages, by name, or any.
Trust = Sequence[str] | Own
#: Group of the entry points by which installed packages register their classes.
PLUGINS = "ddpm_lightning.plugins"

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
        "ddpm_lightning.models.scored.Scored",
        "ddpm_lightning.models.unet_rcan.UNetRCANRegression",
    ),
    "network": (
        "ddpm_lightning.networks.mp_unet.MPUNet",
        "ddpm_lightning.networks.neighbours.NeighbourStem",
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
        "ddpm_lightning.diffusion.flow.Heun",
        "ddpm_lightning.diffusion.flow.Midpoint",
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
        "ddpm_lightning.datasets.simulated_stacks.SimulatedMovies",
        "ddpm_lightning.datasets.simulated_stacks.SimulatedVolumes",
        "ddpm_lightning.datasets.synapses.Synapses",
        "ddpm_lightning.datasets.zebrafish.Zebrafish",
    ),
    "blur": ("ddpm_lightning.data.augment.Blur",),
    "preparation": ("ddpm_lightning.datasets.preparation.build.Preparation",),
    "degradation": (
        "ddpm_lightning.simulation.degradations.Afterpulsing",
        "ddpm_lightning.simulation.degradations.Bandwidth",
        "ddpm_lightning.simulation.degradations.Binning",
        "ddpm_lightning.simulation.degradations.CameraFilter",
        "ddpm_lightning.simulation.degradations.CameraPattern",
        "ddpm_lightning.simulation.degradations.Clipping",
        "ddpm_lightning.simulation.degradations.ColourMosaic",
        "ddpm_lightning.simulation.degradations.CorrelatedNoise",
        "ddpm_lightning.simulation.degradations.Crosstalk",
        "ddpm_lightning.simulation.degradations.Dose",
        "ddpm_lightning.simulation.degradations.DriftCorrection",
        "ddpm_lightning.simulation.degradations.ExcessNoise",
        "ddpm_lightning.simulation.degradations.Flicker",
        "ddpm_lightning.simulation.degradations.Haze",
        "ddpm_lightning.simulation.degradations.HotPixels",
        "ddpm_lightning.simulation.degradations.Jpeg",
        "ddpm_lightning.simulation.degradations.LineNoise",
        "ddpm_lightning.simulation.degradations.Misregistration",
        "ddpm_lightning.simulation.degradations.Photobleaching",
        "ddpm_lightning.simulation.degradations.Quantisation",
        "ddpm_lightning.simulation.degradations.ScanJitter",
        "ddpm_lightning.simulation.degradations.Vignetting",
        "ddpm_lightning.simulation.degradations.Zoom",
        "ddpm_lightning.simulation.detector.Scmos",
    ),
    "callback": (
        "ddpm_lightning.callbacks.checkpoints.Checkpoints",
        "ddpm_lightning.callbacks.divergence.Divergence",
        "ddpm_lightning.callbacks.ema.EMA",
        "ddpm_lightning.callbacks.overfit.Overfit",
        "ddpm_lightning.callbacks.step_time.StepTime",
        "ddpm_lightning.callbacks.preemption.Preemption",
        "ddpm_lightning.callbacks.progress.Progress",
        "ddpm_lightning.callbacks.validation_metrics.ValidationMetrics",
        "ddpm_lightning.callbacks.status.Status",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "lightning.pytorch.callbacks.ModelCheckpoint",
    ),
    "metric": ("ddpm_lightning.metrics.torchmetrics_classes.MAE",),
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
    "data": ("normalisation", "blur", "preparation", "degradation"),
    "degradation": ("degradation",),
    "callback": ("metric",),
}
_KINDS = {name: kind for kind, names in REGISTER.items() for name in names}


def kind_of(name: object) -> str | None:
    """Returns the kind of a registered class, by its dotted path; ``None`` for all others."""
    if not isinstance(name, str):
        return None
    return _KINDS.get(name) or _plugins()[1].get(name)


def check_name(name: object, kinds: Iterable[str] | None = None, trust: Trust = ()) -> str:
    """Rejects a class that is not allowed, without importing it.

    Args:
        name: Its dotted path.
        kinds: Kinds that are allowed in its place; by default all.
        trust: Top-level packages whose classes are allowed anywhere, or :data:`OWN` for all classes.

    Returns:
        The dotted path.

    Raises:
        UserError: If it is neither registered nor trusted, or is of the wrong kind.
    """
    kind = kind_of(name)
    package = name.partition(".")[0] if isinstance(name, str) and "." in name else ""
    if not isinstance(name, str) or (kind is None and not _is_trusted(package, trust)):
        raise _refused(name, package)
    if kind is not None and kinds is not None and kind not in kinds:
        raise UserError(
            f"_target_: {name}",
            f"is of the kind {kind}",
            allowed=" or ".join(kinds) or "plain values, no class",
        )
    return name


def registered_class(name: object, kinds: Iterable[str] | None = None, trust: Trust = ()) -> type:
    """Returns an allowed class; for the arguments see :func:`check_name`.

    Raises:
        UserError: If it is not allowed, cannot be imported, or is not a class that the trusted package itself defines.
    """
    name = check_name(name, kinds, trust)
    if name in _KINDS:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
    found, package = _imported(name), name.partition(".")[0]
    if not isinstance(found, type):
        raise UserError(f"_target_: {name}", "is not a class", allowed=f"classes of {package}")
    # Classes that a trusted module imports from elsewhere are not trusted.
    if not (isinstance(trust, Own) or kind_of(name)) and found.__module__.partition(".")[0] != package:
        raise UserError(
            f"_target_: {name}", f"is not a class that {package} defines", allowed=f"classes of {package}"
        )
    return found


def own_function(name: str, subject: str) -> Callable[..., Any]:
    """Returns a function that the user names in a configuration of their own; never use it for the names in a file.

    Args:
        name: Its dotted path.
        subject: What an error is about.

    Raises:
        UserError: If it cannot be imported, or is not a function.
    """
    try:
        found = _imported(name)
    except UserError as error:
        raise UserError(subject, error.found, error.allowed, error.remedy) from error
    if not callable(found):
        raise UserError(subject, "is not a function", remedy="name a function as mypackage.module.function")
    return found


def _is_trusted(package: str, trust: Trust) -> bool:
    if not package.isidentifier():
        return False
    return isinstance(trust, Own) or package in trusted_packages(trust) or package in _plugins()[0]


def _imported(name: str) -> Any:
    """Imports what the user trusts, also from the working folder, as Python itself does for a script."""
    module, _, attribute = name.rpartition(".")
    package, here = name.partition(".")[0], str(Path.cwd())
    if here not in sys.path and (Path(here, package).is_dir() or Path(here, f"{package}.py").is_file()):
        sys.path.append(here)
        importlib.invalidate_caches()
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the code of others raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        missing = isinstance(error, ImportError | AttributeError | ValueError)
        found = f"cannot be found: {error}"
        if not missing:
            found = (
                f"cannot be imported: {type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
            )
        remedy = f"install {package}, or put its folder on PYTHONPATH" if missing else "correct its code"
        if near := nearest(name[:100], _KINDS, least=0.85):
            remedy = f"did you mean {near[0]}?"
        raise UserError(f"_target_: {name}", found, remedy=remedy) from error


@lru_cache(maxsize=1)
def _plugins() -> tuple[frozenset[str], dict[str, str]]:
    """Returns the packages that installed plugins register as a whole, and the kinds of their single classes."""
    packages, kinds = set(), {}
    for point in _entry_points():
        if not point.attr:
            packages.add(point.module.partition(".")[0])
            continue
        try:
            classes: Mapping[str, Iterable[str]] = point.load()()
            kinds |= {name: kind for kind in REGISTER for name in classes.get(kind, ())}
        except Exception as error:  # whatever the code of others raises
            raise UserError(
                f"plugin {point.value}",
                f"cannot be loaded: {type(error).__name__}: {error}",
                allowed=f"a function that returns lists of class paths by kind: {', '.join(REGISTER)}",
                remedy="correct or uninstall it",
            ) from error
    return frozenset(packages), kinds


def _entry_points() -> list[EntryPoint]:
    """Returns the entry points of installed distributions; the working folder may hold files of anyone."""
    places = [place for place in sys.path if place and Path(place).resolve() != Path.cwd()]
    found = {
        (point.name, point.value): point
        for distribution in distributions(path=places)
        for point in distribution.entry_points
        if point.group == PLUGINS
    }
    return list(found.values())


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
