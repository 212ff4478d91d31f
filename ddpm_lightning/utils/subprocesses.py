"""Runs commands of this program in separate processes and forwards stop signals to them."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import IO, Any

from ddpm_lightning.utils import signals
from ddpm_lightning.utils.errors import Interrupted
from ddpm_lightning.utils.lock import descriptors
from ddpm_lightning.utils.progress import EVERY

__all__ = ["run_command"]

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")


def run_command(
    command: list[str],
    environment: Mapping[str, str],
    stopped: str,
    output: IO[str] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Runs a command in a session of its own, and passes on signals, so that it is told once and can save.

    Args:
        command: The command.
        environment: Its environment.
        stopped: What is said when this process was told to stop.
        output: Where the command writes; by default where this process writes.
        meanwhile: Called once a minute.

    Returns:
        The exit code of the command.

    Raises:
        Interrupted: If this process was told to stop: so was the command, and it has ended.
    """
    received: list[int] = []
    handlers: dict[int, Any] = {}
    streams = {} if output is None else {"stdout": output, "stderr": subprocess.STDOUT}
    # While the command is at work so is this job, whatever becomes of this process.
    inherited = descriptors() if os.name == "posix" else ()
    process = subprocess.Popen(
        command, env=dict(environment), start_new_session=True, pass_fds=inherited, **streams
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        process.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, pass_on) for number in signals.named(*SIGNALS)}
    try:
        while True:
            try:
                code = process.wait(EVERY)
                break
            except subprocess.TimeoutExpired:
                meanwhile()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in received:
        earlier = handlers[number]
        if callable(earlier) and not signals.raises(earlier):
            # That of a cluster's launcher, which puts the job back into the queue: after the job has saved.
            earlier(number, None)
    if received:
        raise Interrupted(received[0], stopped)
    return code
