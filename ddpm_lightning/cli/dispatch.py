"""Runs a verb: its overrides are checked, Hydra composes the configuration, and errors are passed on unchanged."""

import errno
import importlib
import logging
import sys
import warnings

import hydra
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ddpm_lightning.cli import arguments, compose, sweep, sweep_summary
from ddpm_lightning.cli.tree import config_folder
from ddpm_lightning.utils.errors import Interrupted, UserError, is_out_of_memory

__all__ = ["run"]


def run(verb: str, overrides: list[str]) -> int:
    """Runs a verb, or the jobs of a sweep.

    Args:
        verb: Name of the verb, which is the name of its module.
        overrides: What follows the verb on the command line.

    Returns:
        The exit code.

    Raises:
        UserError: If the configuration or what it names cannot be used.
        Interrupted: If the job was asked to stop.
    """
    module = importlib.import_module(f"ddpm_lightning.cli.{verb}")
    if hasattr(module, "spelled_out"):
        overrides = module.spelled_out(overrides)
    overrides = [compose.listed(override) for override in arguments.as_typed(verb, overrides)]
    compose.check(verb, overrides)
    _silence_others()
    command = sys.argv
    codes: list[int] = []
    errors: list[UserError | Interrupted] = []

    @hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)
    def task(config: DictConfig) -> float | None:
        # Lightning starts the processes of DDP by repeating this command, so sys.argv must contain all of it.
        sys.argv = command
        try:
            if sweep.is_job():
                return sweep.delegate(verb)
            codes.append(module.run(config))
        except Interrupted as stop:
            errors.append(stop)
            if sweep.is_job():
                # An exception of another kind would end this job only, and the sweep would continue.
                sys.exit(stop.code)
        except OmegaConfBaseException as error:
            errors.append(
                UserError(error.full_key or "configuration", " ".join(str(error.msg or error).split()))
            )
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            # Hydra would print a traceback and exit with code 1.
            errors.append(_for_user(error))
        return None

    sys.argv = [command[0], *overrides]
    try:
        task()
    finally:
        sys.argv = command
    if errors:
        raise errors[0]
    if failed := sweep_summary.WriteSummary.failed:
        raise UserError(
            f"{len(failed)} jobs of the sweep",
            f"did not finish: {', '.join(failed)}",
            remedy="fix the cause and start the same sweep again with its hydra.sweep.dir: finished jobs are kept",
        )
    return max(codes, default=0)


def _for_user(error: Exception) -> UserError:
    """Returns an error that a user can act on, or raises the given one if it is a defect of the program."""
    if isinstance(error, UserError):
        return error
    if is_out_of_memory(error):
        found = (
            f"does not suffice ({' '.join(str(error).split())[:200]})" if str(error) else "does not suffice"
        )
        return UserError(
            "memory", found, remedy="close other programs, or use smaller images, crops, batches or models"
        )
    if not isinstance(error, OSError):
        raise error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            error.filename or "a file", "the disk is full", remedy="free some space, or choose another folder"
        )
    if error.filename is None:
        raise error
    found = (error.strerror or str(error)).lower()
    return UserError(
        error.filename, found, remedy="check the path and its permissions, or choose another folder"
    )


def _silence_others() -> None:
    """Silences messages of other programs about themselves, and warnings that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Its complaints are reported as errors or notes that name the file.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    for message in (
        "`isinstance\\(treespec, LeafSpec\\)`",  # concerns Lightning and torch only
        ".*does not have many workers",  # pairs are cached in memory
        ".*your dataloader is not resumable",  # it is: batches depend on the position in the run only
        "Checkpoint directory .* exists and is not empty",  # it is the run's own, resumed
        ".*is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", message=message)
