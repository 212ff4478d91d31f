"""Ends a training after a time, and knows that it did."""

from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ddpm_lightning.utils.errors import UserError

__all__ = ["MaxTime", "ended_by"]


class MaxTime(Timer):
    """Ends a training after a time, which begins anew whenever the training is started or resumed.

    Args:
        duration: A text ``DD:HH:MM:SS``, or a dictionary of days, hours, minutes and seconds.

    Raises:
        UserError: If it is no such duration, or not above zero.
    """

    def __init__(self, duration: str | dict[str, float]) -> None:
        try:
            super().__init__(timedelta(**duration) if isinstance(duration, dict) else duration, verbose=False)
            self.seconds = float(self.time_remaining())
            if self.seconds <= 0:
                raise ValueError("no time")
        except (TypeError, ValueError, AttributeError, OverflowError, MisconfigurationException) as error:
            raise UserError(
                f"trainer.max_time={duration}",
                "is no duration",
                allowed="DD:HH:MM:SS, such as 00:00:20:00 for 20 minutes, or null",
            ) from error
        days, hours, minutes, seconds = _parts(self.seconds)
        self.text = f"{days:02d}:{hours:02d}:{minutes:02d}:{seconds:02d}"

    def spend(self, seconds: float, most: float) -> None:
        """Counts time that the first of two stages took.

        Args:
            seconds: That time in seconds.
            most: Share of the whole time, from 0 to 1, that is counted at most; the rest is left for the second stage.
        """
        super().load_state_dict({"time_elapsed": {"train": min(seconds, most * self.seconds)}})

    def state_dict(self) -> dict[str, Any]:
        """Keeps nothing, so that a run can be resumed without a limit."""
        return {}

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
