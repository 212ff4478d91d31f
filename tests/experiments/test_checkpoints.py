"""Models of experiments: what is missing is asked of the benchmark, and nothing else is touched."""

import importlib
from pathlib import Path

import pytest

from ddpm_lightning.cli import compose
from experiments import common

PLAIN = common.set_of("zebrafish")
NOISY = common.set_of("zebrafish", "data/degradations=[line_noise]", "data.degradations.line_noise.sigma=6")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls = []
    monkeypatch.setattr(common, "command", lambda *arguments: calls.append(arguments))
    return calls


def options(place: Path) -> common.Options:
    return common.Options({}, "", place, {}, None, place, place, common.TRAINING["small"])


def finish(place: Path, *cells: str) -> None:
    for cell in cells:
        (place / cell).mkdir(parents=True)
        (place / cell / "job.json").write_text("{}")


def test_only_what_is_missing_is_trained_and_what_it_starts_from(tmp_path, asked):
    finish(tmp_path, "plain/care", "plain/residual_flow", "noisy/care")
    found = common.checkpoints(options(tmp_path), {"plain": PLAIN, "noisy": NOISY}, ["care", "residual_flow"])
    assert found["noisy", "care"] == tmp_path / "noisy" / "care" / "run" / "checkpoints" / "best.ckpt"
    ((verb, *overrides),) = asked
    config = compose.plain(compose.compose(verb, overrides))
    # The finished cell of the same set is not looked at, since it may have been made by other settings.
    assert set(config["methods"]) == {"residual_flow", "regression_two_thirds"}
    assert [name for name, value in config["sets"].items() if value] == ["noisy"]
    expected = [one.replace("${folder}", str(tmp_path)) for one in NOISY]
    assert config["sets"]["noisy"] == expected
    assert config["budget"]["seconds"] == 40
    compose.compose("train", [*config["sets"]["noisy"], *config["methods"]["regression_two_thirds"]["train"]])


def test_nothing_is_trained_where_all_is_there(tmp_path, asked):
    finish(tmp_path, "microtubules/care")
    common.checkpoints(options(tmp_path), {"microtubules": None}, ["care"])
    assert not asked
    common.checkpoints(options(tmp_path), {"mitochondria": None}, ["care"])
    config = compose.plain(compose.compose(*[asked[0][0], asked[0][1:]]))
    assert [name for name, value in config["sets"].items() if value] == ["mitochondria"]


@pytest.mark.parametrize("size", common.TRAINING)
def test_the_settings_of_trainings_are_settings_of_the_benchmark(size):
    config = compose.plain(compose.compose("benchmark", common.TRAINING[size]))
    assert compose.compose("evaluate", [*config["evaluate"], "checkpoint=x"]).checkpoint == "x"
    assert compose.compose("train", config["train"]).trainer


def test_differences_are_paired_by_set_and_image():
    def row(name: str, image: str, psnr: str) -> dict[str, str]:
        return {"set": name, "image": image, "field": "", "psnr": psnr}

    first = [row("a", "0", "3"), row("b", "0", "7"), row("b", "1", "")]
    found = common.differences(first, [row("b", "0", "7"), row("a", "0", "1"), row("b", "1", "2")])
    assert [(one["image"], one["difference"]) for one in found] == [("a/0", "2"), ("b/0", "0")]
    assert common.mean(found, "difference").startswith("1.00 (")


class Enough(Exception):
    """Raised where an experiment would begin to score."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("cross_dataset", "full"), ("structured_noise", "full"), ("dose", "small"), ("paper_table", "full")],
)
def test_what_experiments_ask_for_can_be_trained(name, size, tmp_path, asked, monkeypatch):
    def enough(*_: object) -> None:
        raise Enough

    monkeypatch.setattr(common, "loaded", enough)
    module = importlib.import_module(f"experiments.{name}.run")
    settings = module.SIZES[size]
    with pytest.raises(Enough):
        module.measure(
            common.Options(settings, "", tmp_path, {}, None, tmp_path, tmp_path, common.TRAINING[size])
        )
    for number, (verb, *overrides) in enumerate(asked):
        config = compose.plain(compose.compose(verb, overrides))
        ((data, chosen),) = ((key, value) for key, value in config["sets"].items() if value)
        assert set(settings.get("methods", config["methods"])) <= set(config["methods"]), data
        # All methods on the first set, and one of them on each other.
        for method in list(config["methods"].values())[: None if number == 0 else 1]:
            train = compose.compose("train", [*chosen, *method["train"], *config["train"]])
            assert train.data.cache == str(tmp_path / "simulated")
