"""Ends a training after a time, and knows that it did."""

from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import Timer

__all__ = ["MaxTime", "ended_by"]


class MaxTime(Timer):
    """Ends a training after a time, which begins anew whenever the training is started or resumed.

    Args:
        duration: A text ``DD:HH:MM:SS``, or a dictionary of days, hours, minutes and seconds.
    """

    def __init__(self, duration: str | dict[str, float]) -> None:
        super().__init__(timedelta(**duration) if isinstance(duration, dict) else duration, verbose=False)
        days, hours, minutes, seconds = _parts(self.time_remaining())
        self.text = f"{days:02d}:{hours:02d}:{minutes:02d}:{seconds:02d}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes no time over: a run that was ended by its time would end again as soon as it is resumed."""


def ended_by(trainer: lightning.Trainer) -> str:
    """Says by what a training ended before its last step, as ``after 00:00:20:00 (trainer.max_time)``, or nothing.

    Args:
        trainer: The trainer, after its fit.
    """
    timer = next((callback for callback in trainer.callbacks if isinstance(callback, MaxTime)), None)
    if timer is None or trainer.global_step >= trainer.max_steps or timer.time_remaining() > 0:
        return ""
    return f"after {timer.text} (trainer.max_time)"


def _parts(seconds: float) -> tuple[int, int, int, int]:
    minutes, rest = divmod(round(seconds), 60)
    return minutes // 1440, minutes // 60 % 24, minutes % 60, rest
