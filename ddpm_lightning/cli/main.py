"""``ddpm-lightning VERB [overrides]``: shows help, or runs a verb and turns its errors into messages and exit codes.

Exit codes: 0 success, 2 an error that the user can fix, 3 some files failed, 129 the terminal was closed (SIGHUP), 130
interrupted (SIGINT, Ctrl-C), 138 asked to save and stop (SIGUSR1, training only), 143 asked to stop (SIGTERM). A
training run saves its state first. Closing the pipe that reads the output, as in ``… | head -1``, changes nothing: the
job runs to its end, with its own exit code. With ``nohup``, SIGHUP is ignored.
"""

import os
import shlex
import sys
import time

from ddpm_lightning.cli import streams
from ddpm_lightning.cli.help import VERBS, overview, verb_help
from ddpm_lightning.utils import signals
from ddpm_lightning.utils.errors import Interrupted, UserError, unknown
from ddpm_lightning.utils.version import __version__

#: What an interrupted verb keeps, and what repeating the command does.
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
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        with signals.raised("SIGTERM", "SIGHUP"):
            code = _answer(given)
        if streams.lost:
            raise UserError(streams.lost[0], "the job finished, but part of its output could not be written")
    except UserError as error:
        # Every process of a distributed run meets the same error; one of them reports it.
        if is_first:
            print(f"error: {error}", file=sys.stderr)
        else:
            # Lightning kills the first process as soon as another one fails: let it report and exit first.
            time.sleep(6)
        code = 2
    except Interrupted as stop:
        if is_first:
            print(f"interrupted: {_how_to_resume(str(stop), given)}", file=sys.stderr)
        code = stop.code if is_first else 0
    except KeyboardInterrupt:
        print(f"interrupted: {_how_to_resume('', given)}", file=sys.stderr)
        code = 130
    sys.exit(code)


def _answer(given: list[str]) -> int:
    """Prints help, or runs a verb; returns its exit code."""
    if not given or given[0] in ("-h", "--help", "help"):
        print(overview())
    elif given[0] in ("-V", "--version"):
        print(f"ddpm-lightning {__version__}")
    elif given[0] not in VERBS:
        raise unknown("verb", given[0], VERBS)
    elif "-h" in given or "--help" in given:
        print(verb_help(given[0]))
    else:
        # Only now, because the imports of a verb take seconds.
        from ddpm_lightning.cli.dispatch import run

        return run(given[0], given[1:])
    return 0


def _how_to_resume(said: str, given: list[str]) -> str:
    """Returns what an interrupted command has kept, and which command resumes it.

    Args:
        said: The message of the command itself, which may name the command that resumes it.
        given: The arguments of the command.
    """
    kept, again = LEFT.get(given[0], ("nothing was written", "start again with"))
    if "resume with" in said or "to resume" in said:
        return said
    return f"{said or kept}; {again}: {shlex.join(['ddpm-lightning', *given])}"


if __name__ == "__main__":
    main()
