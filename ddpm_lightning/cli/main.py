"""``ddpm-lightning VERB [overrides]``: finds the verb, checks its configuration, runs it, and answers errors.

Exit codes: 0 success, 2 an error that the user can fix, 3 some files failed, 129 the terminal was closed (SIGHUP), 130
interrupted (SIGINT, Ctrl-C), 138 asked to save and stop (SIGUSR1, training only), 143 asked to stop (SIGTERM). A
training run saves its state first. Closing the pipe that reads the output, as in ``… | head -1``, changes nothing: the
job runs to its end, with its own exit code. With ``nohup``, SIGHUP is ignored.
"""

import errno
import importlib
import logging
import os
import shlex
import sys
import textwrap
import time
import warnings
from types import ModuleType

import hydra
from omegaconf import DictConfig

from ddpm_lightning import __version__
from ddpm_lightning.cli import arguments, compose, streams, sweep, sweep_summary
from ddpm_lightning.utils import signals
from ddpm_lightning.utils.errors import Interrupted, UserError, is_out_of_memory

VERBS = {
    "prepare": "get a published data set and make pairs of it, or audit your own pairs",
    "train": "train a model on pairs of noisy and clean images",
    "evaluate": "score a trained model on a split, image by image",
    "compare": "set evaluations of the same images side by side, with tests of their differences",
    "report": "write one page of evaluations to look at, with a viewer",
    "restore": "restore TIFF files with a trained model, with an uncertainty map",
    "export": "write a trained model as a BioImage.IO package for other programs",
    "show": "print what a run or a checkpoint is, where it comes from, and how good it is",
    "dashboard": "make a W&B workspace and report that compare methods and sets",
    "benchmark": "train and score all methods on all sets under one budget, and write one table",
    "demo": "the main job in minutes on simulated data, nothing downloaded",
}


#: What remains when a verb is interrupted, and what repeating the command does.
LEFT = {
    "prepare": ("downloaded and prepared files are kept", "resume with"),
    "train": ("the training had not started, and nothing was saved", "start again with"),
    "evaluate": ("no results were written; earlier results are unchanged", "start again with"),
    "restore": ("no file was restored yet; earlier results are unchanged", "resume with"),
    "benchmark": ("finished training runs and scores are kept", "resume with"),
    "demo": ("a demo cannot be resumed", "start again with"),
}


def main() -> None:
    """Entry point of the console script."""
    streams.outlive_readers()
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview())
        return
    if given[0] in ("-V", "--version"):
        print(f"ddpm-lightning {__version__}")
        return
    try:
        with signals.raised("SIGTERM", "SIGHUP"):
            code = _run(given[0], given[1:])
        if streams.lost:
            raise UserError(streams.lost[0], "the job finished, but part of its output could not be written")
        sys.exit(code)
    except UserError as error:
        # Every process of a distributed run stumbles over the same stone; one of them says so.
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        else:
            # Lightning kills the first process as soon as it sees another one fail: let it speak and go first.
            time.sleep(6)
        sys.exit(2)
    except Interrupted as stop:
        # The first process answers for all of them.
        if os.environ.get("LOCAL_RANK", "0") != "0":
            sys.exit(0)
        print(f"interrupted: {_how_to_resume(str(stop), given)}", file=sys.stderr)
        sys.exit(stop.code)
    except KeyboardInterrupt:
        print(f"interrupted: {_how_to_resume('', given)}", file=sys.stderr)
        sys.exit(130)


def _how_to_resume(said: str, given: list[str]) -> str:
    """Says what an interrupted command has kept, and which command continues it.

    Args:
        said: The message of the command itself, which may name the command that resumes it.
        given: The arguments of the command.
    """
    kept, again = LEFT.get(given[0], ("nothing was written", "start again with"))
    if "resume with" in said or "to resume" in said:
        return said
    return f"{said or kept}; {again}: {shlex.join(['ddpm-lightning', *given])}"


def _run(verb: str, overrides: list[str]) -> int:
    if verb not in VERBS:
        raise compose.unknown("verb", verb, VERBS)
    module = importlib.import_module(f"ddpm_lightning.cli.{verb}")
    if any(flag in overrides for flag in ("-h", "--help")):
        print(_help(verb, module))
        return 0
    if hasattr(module, "spelled_out"):
        overrides = module.spelled_out(overrides)
    overrides = arguments.as_typed(verb, overrides)
    overrides = [compose.listed(override) for override in overrides]
    compose.check(verb, overrides)
    _quieten()
    command = sys.argv
    codes: list[int] = []
    errors: list[UserError | Interrupted] = []

    @hydra.main(version_base="1.3", config_path=str(compose.config_folder()), config_name=verb)
    def task(config: DictConfig) -> float | None:
        # Lightning starts the processes of DDP by repeating this very command, so it must find it whole.
        sys.argv = command
        try:
            if sweep.is_job():
                return sweep.delegate(verb)
            codes.append(module.run(config))
        except Interrupted as stop:
            errors.append(stop)
            if sweep.is_job():
                # An exception of another kind would end this job only, and the sweep would go on.
                sys.exit(stop.code)
        except UserError as error:
            # Hydra would print a traceback and leave with code 1.
            errors.append(error)
        except OSError as error:
            errors.append(_of_memory(error) if is_out_of_memory(error) else _of_the_system(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            errors.append(_of_memory(error))
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


def _of_memory(error: BaseException) -> UserError:
    """Returns an error that says that memory was insufficient, and for what, if known."""
    found = f"does not suffice ({' '.join(str(error).split())[:200]})" if str(error) else "does not suffice"
    remedy = "close other programs, or use smaller images, crops, batches or models"
    return UserError("memory", found, remedy=remedy)


def _of_the_system(error: OSError) -> UserError:
    """Returns what the operating system complains of, as an error that names the file."""
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


def _quieten() -> None:
    """Silences what other programs say of themselves and what does not hold here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Whatever it complains about becomes an error or a note that names the file.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    for message in (
        "`isinstance\\(treespec, LeafSpec\\)`",  # Lightning speaking to torch
        ".*does not have many workers",  # pairs are cached in memory
        ".*your dataloader is not resumable",  # it is: batches are keyed by the position of the run
        "Checkpoint directory .* exists and is not empty",  # it is the run's own, resumed
        ".*is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", message=message)


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            f"ddpm-lightning {__version__}: restores microscopy images with conditional diffusion models",
            "",
            "usage: ddpm-lightning VERB [KEY=VALUE ...]",
            "",
            *lines,
            "",
            "ddpm-lightning VERB --help      examples and settings of a verb",
            "ddpm-lightning VERB --cfg job   the whole configuration, nothing is run",
        ]
    )


def _help(verb: str, module: ModuleType) -> str:
    text = f"ddpm-lightning {verb}: {VERBS[verb]}\n\n{module.__doc__.strip()}\n\nSettings (conf/{verb}.yaml):\n\n"
    settings = (compose.config_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    lines = [f"  {line}" for line in settings.splitlines() if "override hydra" not in line]
    return text + "\n".join([*lines, "", _paths(verb)])


def _paths(verb: str) -> str:
    """Explains how to type the paths of a verb."""
    keys = arguments.paths_of(verb)
    text = (
        f"Paths ({', '.join(keys)}) may contain any characters; quote them only as your shell requires: "
        "KEY='exp 1 (20x, 50% laser)'. If a file or folder of exactly that name exists, it is used. Otherwise the "
        "value may be a pattern (day1/*.tif), a list ([a.tif,b.tif]), values of a sweep (--multirun KEY=a,b), null, or "
        "a quoted path."
    )
    return textwrap.fill(text, 116)


if __name__ == "__main__":
    main()
