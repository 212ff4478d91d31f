import pytest

from ddpm_lightning.utils.errors import UserError
from ddpm_lightning.utils.settings import Count, Fraction, Settings, Side, Switch, Text


class Inner(Settings):
    steps: Count = 5


class Outer(Settings):
    checkpoint: Text
    samples: Count | None = None
    level: Fraction = 0.9
    tile: Side | None = None
    bfloat16: Switch = False
    names: list[str] = []
    inner: Inner = Inner()


def test_values_are_kept_and_cannot_be_changed():
    settings = Outer.of(
        {"checkpoint": "a.ckpt", "samples": 3, "inner": {"steps": 2}, "bfloat16": "auto", "level": 0.5}
    )
    assert (settings.samples, settings.inner.steps, settings.tile, settings.bfloat16) == (3, 2, None, "auto")
    with pytest.raises(ValueError):
        settings.samples = 4


@pytest.mark.parametrize(
    ("values", "subject", "said"),
    [
        ({"samples": 0}, "samples", "a whole number of at least 1, or null"),
        ({"samples": True}, "samples", "whole number"),
        ({"samples": "3"}, "samples", "whole number"),
        ({"samples": 2.5}, "samples", "whole number"),
        ({"level": 1}, "level", "a number above 0 and below 1"),
        ({"level": float("nan")}, "level", "a number"),
        ({"tile": 8}, "tile", "at least 16"),
        ({"bfloat16": "yes"}, "bfloat16", "true or false, or auto"),
        ({"checkpoint": ""}, "checkpoint", "is empty"),
        ({"checkpoint": None}, "checkpoint", "is null"),
        ({"names": "a"}, "names", "a list"),
        ({"names": ["a", 1]}, "names", "a list"),
        ({"inner": {"steps": 0}}, "inner.steps", "at least 1"),
        ({"inner": {"step": 1}}, "inner.step", "did you mean steps?"),
        ({"inner": 3}, "inner", "named values"),
        ({"sample": 3}, "sample", "did you mean samples?"),
    ],
)
def test_what_is_wrong_is_named(values, subject, said):
    with pytest.raises(UserError) as error:
        Outer.of({"checkpoint": "a.ckpt", **values})
    assert str(error.value.subject) == subject and said in str(error.value)


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match="checkpoint: is not given"):
        Outer.of({})
