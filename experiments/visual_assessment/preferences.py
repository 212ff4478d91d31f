r"""What observers preferred: from the answers of the page and its key to fractions with intervals.

python -m experiments.visual_assessment.preferences FOLDER/key.json answers_*.json

The fraction of choices for a version has Wilson's interval: all :math:`p` for which the observed :math:`\hat p` of
:math:`n` is no further away than :math:`z \sqrt{p (1 - p) / n}`,

.. math:: \frac{\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}}{1 + z^2 / n}

It assumes independent choices, but those about one image are not independent: the second interval is from resampling
*images* with replacement. The p-value is that of the exact binomial test against 1/2, with Holm's correction for
the number of pairs.

Agreement between observers is the fraction of equal choices among pairs of observers who answered the same trial, and
Fleiss' :math:`\kappa = (P - P_e) / (1 - P_e)`, with that fraction :math:`P`, and :math:`P_e` that expected by chance:
:math:`q^2 + (1 - q)^2` for the overall fraction :math:`q` of choices for the first version.

References:
    Wilson. *Probable inference, the law of succession, and statistical inference* (1927).
    Fleiss. *Measuring nominal scale agreement among many raters* (1971).
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm

from ddpm_lightning.evaluation.statistics import describe, holm
from ddpm_lightning.utils.errors import UserError
from experiments.common import table

__all__ = ["Choice", "Preference", "choices_of", "is_answers", "is_key", "preferences", "read", "wilson"]


@dataclass(frozen=True)
class Choice:
    """One answer, with the versions in the order of their names.

    Attributes:
        observer: Who chose.
        image: Name of the image.
        versions: The two versions, sorted.
        first: Whether the first of them was chosen.
        side: ``left`` or ``right``, the side of the chosen one.
    """

    observer: str
    image: str
    versions: tuple[str, str]
    first: bool
    side: str


@dataclass(frozen=True)
class Preference:
    """The result of the choices between two versions.

    Attributes:
        versions: The two versions.
        choices: Number of choices.
        fraction: Fraction of choices for the first.
        interval: Wilson's 95 % interval of it.
        over_images: 95 % interval from resampling images, or ``None`` for one image.
        p: Two-sided p-value of the binomial test against 1/2.
        agreement: Fraction of equal choices among pairs of observers, or ``None`` for one observer.
        kappa: Fleiss' kappa, or ``None`` where it is not defined.
    """

    versions: tuple[str, str]
    choices: int
    fraction: float
    interval: tuple[float, float]
    over_images: tuple[float, float] | None
    p: float
    agreement: float | None
    kappa: float | None


def wilson(chosen: int, number: int, level: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's interval of a fraction.

    Args:
        chosen: Number of choices for a version.
        number: Number of choices, at least one.
        level: Coverage of the interval.
    """
    z, fraction = norm.ppf((1 + level) / 2), chosen / number
    middle = fraction + z**2 / (2 * number)
    half = z * (fraction * (1 - fraction) / number + z**2 / (4 * number**2)) ** 0.5
    return tuple(float((middle + sign * half) / (1 + z**2 / number)) for sign in (-1, 1))


def choices_of(key: Mapping[str, Any], answers: Iterable[Mapping[str, Any]]) -> list[Choice]:
    """Returns the choices behind the answers of observers.

    Args:
        key: Content of ``key.json``.
        answers: Content of the files of answers, one for each observer.

    Raises:
        UserError: If answers belong to another page, an observer comes twice, or answers a trial twice.
    """
    found, seen = [], set()
    for file in answers:
        observer = file["observer"]
        if file["seed"] != key["seed"] or any(a["trial"] >= len(key["trials"]) for a in file["answers"]):
            raise UserError(
                f"the answers of {observer}", "belong to another page", remedy="give the key of that page"
            )
        if observer in seen:
            raise UserError(
                f"the observer {observer}", "comes twice", remedy="leave one file out, or rename one"
            )
        seen.add(observer)
        answered = [answer["trial"] for answer in file["answers"]]
        if len(set(answered)) < len(answered):
            raise UserError(
                f"the answers of {observer}",
                "hold a trial twice",
                remedy="take the file as the page saved it",
            )
        for answer in file["answers"]:
            trial = key["trials"][answer["trial"]]
            versions = tuple(sorted(trial["versions"]))
            first = trial["versions"][answer["chosen"]] == versions[0]
            found.append(Choice(observer, trial["image"], versions, first, answer["side"]))
    return found


def preferences(choices: Sequence[Choice]) -> list[Preference]:
    """Returns what the choices say, for each pair of versions."""
    found = []
    for versions in sorted({choice.versions for choice in choices}):
        having = [choice for choice in choices if choice.versions == versions]
        first = sum(choice.first for choice in having)
        estimate = describe([float(c.first) for c in having], [c.image for c in having])
        agreed, kappa = _agreement(having)
        found.append(
            Preference(
                versions,
                len(having),
                first / len(having),
                wilson(first, len(having)),
                estimate.mean_interval,
                binomtest(first, len(having)).pvalue,
                agreed,
                kappa,
            )
        )
    return found


def _agreement(choices: Sequence[Choice]) -> tuple[float | None, float | None]:
    by_image: dict[str, list[bool]] = {}
    for choice in choices:
        by_image.setdefault(choice.image, []).append(choice.first)
    shares = [
        np.mean([one == other for one, other in combinations(answers, 2)])
        for answers in by_image.values()
        if len(answers) > 1
    ]
    if not shares:
        return None, None
    several = [answer for answers in by_image.values() if len(answers) > 1 for answer in answers]
    agreed, q = float(np.mean(shares)), float(np.mean(several))
    chance = q**2 + (1 - q) ** 2
    return agreed, (agreed - chance) / (1 - chance) if chance < 1 else None


def in_words(choices: Sequence[Choice]) -> str:
    """Returns a table of the preferences in Markdown, and how often the left side was taken."""
    found = preferences(choices)
    rows = []
    for preference, p in zip(found, holm([one.p for one in found]), strict=True):
        by_images = preference.over_images
        rows.append(
            [
                " against ".join(preference.versions),
                preference.choices,
                f"{preference.fraction:.0%}",
                "{:.0%} to {:.0%}".format(*preference.interval),
                "{:.0%} to {:.0%}".format(*by_images) if by_images else "",
                f"{p:.2g}",
                "" if preference.agreement is None else f"{preference.agreement:.0%}",
                "" if preference.kappa is None else f"{preference.kappa:.2f}",
            ]
        )
    header = ["pair", "choices", "for the first", "Wilson's 95 % interval", "interval over images"]
    text = table([*header, "p (binomial, Holm)", "observers agree", "Fleiss' kappa"], rows)
    left = sum(choice.side == "left" for choice in choices)
    low, high = wilson(left, len(choices))
    observers = len({choice.observer for choice in choices})
    sides = f"The left side was taken in {left / len(choices):.0%} ({low:.0%} to {high:.0%}) of the choices"
    return f"{text}\n\nObservers: {observers}. {sides}; without a habit of sides it is half."


def read(path: Path, is_wanted: Callable[[Mapping[str, Any]], bool], wanted: str) -> dict[str, Any]:
    """Returns the content of a file of the page.

    Args:
        path: The file.
        is_wanted: Whether content is what is wanted.
        wanted: What that is, in words.

    Raises:
        UserError: If it is something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not (isinstance(found, dict) and "seed" in found and is_wanted(found)):
        raise UserError(path, f"is not {wanted}")
    return found


def is_key(content: Mapping[str, Any]) -> bool:
    """Says whether this is the content of ``key.json``."""
    return _each(
        content.get("trials"),
        lambda trial: (
            isinstance(trial.get("image"), str)
            and isinstance(versions := trial.get("versions"), list)
            and len(versions) == 2
            and all(isinstance(version, str) for version in versions)
        ),
    )


def is_answers(content: Mapping[str, Any]) -> bool:
    """Says whether this is the content of a file of answers."""
    return isinstance(content.get("observer"), str) and _each(
        content.get("answers"),
        lambda answer: (
            type(answer.get("trial")) is int
            and answer["trial"] >= 0
            and type(answer.get("chosen")) is int
            and answer["chosen"] in (0, 1)
            and answer.get("side") in ("left", "right")
        ),
    )


def _each(entries: Any, holds: Callable[[Mapping[str, Any]], bool]) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) and holds(entry) for entry in entries)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the preferences of the files of the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.visual_assessment.preferences")
    parser.add_argument("key", type=Path, help="key.json, beside the page")
    parser.add_argument("answers", type=Path, nargs="+", help="files of answers, one for each observer")
    chosen = parser.parse_args(arguments)
    try:
        key = read(chosen.key, is_key, "the key of a page, key.json")
        choices = choices_of(
            key, [read(path, is_answers, "an observer's answers") for path in chosen.answers]
        )
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(in_words(choices) if choices else "No answers.")


if __name__ == "__main__":
    main()
