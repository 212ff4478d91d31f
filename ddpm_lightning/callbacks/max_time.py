"""Ends a training after a given time, and reports whether it did."""

from datetime import timedelta
from math import inf
from typing import Any, cast

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Timer

from ddpm_lightning.utils.errors import UserError

__all__ = ["MaxTime", "ended_by"]


class MaxTime(Timer):
    """Ends a training after a given time since it was last started or resumed.

    Args:
        duration: Text ``DD:HH:MM:SS``, or a dictionary with days, hours, minutes and seconds.

    Raises:
        UserError: If it is neither, or not above zero.
    """

    def __init__(self, duration: str | dict[str, float]) -> None:
        try:
            super().__init__(timedelta(**duration) if isinstance(duration, dict) else duration, verbose=False)
            self.seconds = self._left()
            if self.seconds <= 0:
                raise ValueError("no time")
        except (TypeError, ValueError, AttributeError, OverflowError, MisconfigurationException) as error:
            raise UserError(
                f"trainer.max_time={duration}",
                "is not a duration",
                allowed="DD:HH:MM:SS, such as 00:00:20:00 for 20 minutes, or null",
            ) from error
        days, hours, minutes, seconds = _parts(self.seconds)
        self.text = f"{days:02d}:{hours:02d}:{minutes:02d}:{seconds:02d}"

    def spend(self, seconds: float, most: float) -> None:
        """Counts the time that the first of two stages took.

        Args:
            seconds: Time of the first stage in seconds.
            most: Largest share of the total time, from 0 to 1, that is counted; the rest is left for the second stage.
        """
        super().load_state_dict({"time_elapsed": {"train": min(seconds, most * self.seconds)}})

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing, so that a run can be resumed without a limit."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignores the time of an earlier start: a run that it ended would end again as soon as it is resumed."""

    def _left(self) -> float:
        """Returns the seconds that are left; infinite without a limit."""
        left = self.time_remaining()
        return inf if left is None else float(left)


def ended_by(trainer: Trainer) -> str:
    """Returns why a training ended before its last step, as ``after 00:00:20:00 (trainer.max_time)``; otherwise empty.

    Args:
        trainer: The trainer, after its fit.
    """
    callbacks = cast(Any, trainer).callbacks
    timer = next((callback for callback in callbacks if isinstance(callback, MaxTime)), None)
    if timer is None or trainer.global_step >= trainer.max_steps or timer._left() > 0:
        return ""
    return f"after {timer.text} (trainer.max_time)"


def _parts(seconds: float) -> tuple[int, int, int, int]:
    minutes, rest = divmod(round(seconds), 60)
    return minutes // 1440, minutes // 60 % 24, minutes % 60, rest
