"""The benchmark's bookkeeping: budgets, order, what is kept, what fails. Its commands are stood in for;
tests/experiments/test_benchmark.py runs real ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from ddpm_lightning.benchmark import jobs
from ddpm_lightning.cli import compose
from ddpm_lightning.evaluation.image_scores import ESTIMATORS, Row
from ddpm_lightning.evaluation.tables import write_rows
from ddpm_lightning.utils.errors import UserError
from tests.command import call

#: Seconds that a step of each method takes on the machine of these tests.
PACE = {"noise2void": 0.1, "care": 0.2, "unet_rcan": 0.4, "pix2pix": 0.1, "regression": 0.05, "ddpm": 0.08}
PACE |= {"pmrf": 0.07, "residual_flow": 0.07, "scored": 0.03, "regression_two_thirds": 0.05}
PACE |= {"noise2void_test": 0.1}


class Commands:
    """Stands in for the commands of the program; remembers them."""

    def __init__(self):
        self.called, self.failing = [], set()

    def __call__(self, job, verb, overrides, program):
        self.called.append((job.data, job.method, verb, overrides))
        if (job.method, verb) in self.failing:
            raise UserError(f"{job.method} on {job.data}", "failed")
        if "callbacks=step_time" in overrides:
            (job.folder / "run").mkdir(parents=True, exist_ok=True)
            slower = 1 + sum(1 for called in self.called if called[1] == job.method) / 10
            pace = {"seconds_per_step": PACE[job.method] * slower, "steps": 14}
            (job.folder / "run" / "step_time.json").write_text(json.dumps(pace))
        elif verb == "train":
            (job.folder / "run" / "checkpoints").mkdir(parents=True)
            (job.folder / "run" / "status.json").write_text('{"state": "finished"}')
        else:
            samples = (
                15
                if job.method in ("ddpm", "residual_flow", "scored", "pix2pix")
                else 2
                if job.method == "pmrf"
                else 1
            )
            (output,) = (o.partition("=")[2] for o in overrides if o.startswith("output="))
            self.evaluate(Path(output), samples, job.method in ("ddpm", "pmrf_realistic"))

    def evaluate(self, folder, samples, several):
        for name in ("metrics.csv", "metrics_range.csv", "metrics_paper.csv"):
            rows = [
                Row(f"{image}", "", estimator, {"psnr": 20.0 + image}, {}, {"protocol": name})
                for image in range(7)
                for estimator in ESTIMATORS
            ]
            write_rows(rows, folder / name)
        summary = {
            "images": 7,
            "samples": samples,
            "nfe_per_sample": 5 if several else 1,
            "deterministic": samples == 1 and not several,
            "calibration": None,
            "averaging": None,
        }
        (folder / "summary.json").write_text(json.dumps(summary))

    def trained(self):
        return [
            (data, method)
            for data, method, verb, o in self.called
            if verb == "train" and "callbacks=step_time" not in o
        ]

    def measured(self):
        return [method for _, method, _, o in self.called if "callbacks=step_time" in o]


@pytest.fixture
def commands(monkeypatch):
    commands = Commands()
    monkeypatch.setattr(jobs, "command", commands)
    about = {"parameters": 5, "seconds_per_sample": 0.1, "preset": "one pass"}
    monkeypatch.setattr(jobs, "_measured", lambda job, program, evaluation: about)
    image = np.arange(64.0).reshape(8, 8)
    monkeypatch.setattr(
        jobs,
        "_write_example",
        lambda job, program: np.savez(
            job.folder / "example.npz", low=image, target=image, single=image, average=image
        ),
    )
    return commands


@pytest.fixture
def run(tmp_path, commands, capsys, monkeypatch):
    def run(*overrides):
        commands.called.clear()
        common = [f"folder={tmp_path}/jobs", f"output={tmp_path}/table"]
        few = ["~sets.synapses", "~sets.zebrafish", "~sets.mitochondria"]
        return call("benchmark", *common, *few, *overrides, capsys=capsys, monkeypatch=monkeypatch)

    return run


def steps_of(overrides):
    return int(next(o for o in overrides if o.startswith("trainer.max_steps=")).split("=")[1])


def test_seconds_become_steps_by_the_least_pace_and_flows_follow_their_mean(
    run, commands, tmp_path, monkeypatch
):
    monkeypatch.setitem(PACE, "regression_two_thirds", 0.06)
    answer = run("budget.seconds=100", "only=[pmrf,regression,gaussian]")
    assert answer.code == 0, answer.err
    trainings = {
        m: o for _, m, verb, o in commands.called if verb == "train" and "callbacks=step_time" not in o
    }
    # The first of the rounds is the faster one: 1.1 times the pace.
    assert steps_of(trainings["regression"]) == pytest.approx(100 / (0.05 * 1.1), abs=4)
    # The same training takes as long in both rows, whatever was measured.
    assert steps_of(trainings["regression_two_thirds"]) == pytest.approx(66.7 / (0.05 * 1.1), abs=4)
    assert steps_of(trainings["pmrf"]) == pytest.approx(33.3 / (0.07 * 1.1), abs=4)
    assert steps_of(trainings["pmrf"]) % 8 == 0
    assert "trainer.max_steps" not in " ".join(trainings["gaussian"])
    order = [method for _, method in commands.trained()]
    assert order.index("regression_two_thirds") < order.index("pmrf")
    mean = Path(tmp_path / "jobs/microtubules/regression_two_thirds/run/checkpoints/best.ckpt")
    assert f"model.mean={mean}" in trainings["pmrf"]
    assert (tmp_path / "table" / "table.md").is_file()


def test_only_what_is_asked_for_is_measured_and_what_was_done_before_stays(run, commands, tmp_path):
    assert run("budget.seconds=100", "only=[gaussian]").code == 0
    assert commands.measured() == []
    assert run("budget.seconds=100", "only=[pmrf]").code == 0
    assert commands.measured() == ["regression_two_thirds", "pmrf"] * 3
    assert run("budget.seconds=100", "only=[care]").code == 0
    assert commands.measured() == ["care"] * 3
    assert {method for _, method in commands.trained()} == {"care"}
    page = (tmp_path / "table/table.md").read_text()
    for row in ("gaussian", "regression_two_thirds", "pmrf, average of 2", "care"):
        assert f"\n| {row} |" in page
    assert run("budget.seconds=100", "only=[regression]").code == 0
    assert commands.measured() == [], "it is trained as regression_two_thirds is"


def test_a_row_may_use_the_checkpoint_of_another(run, commands, tmp_path):
    assert run("budget.steps=80", "only=[pmrf_realistic]").code == 0
    assert [method for _, method in commands.trained()] == ["regression_two_thirds", "pmrf"]
    overrides, _ = [o for _, m, verb, o in commands.called if m == "pmrf_realistic" and verb == "evaluate"]
    assert overrides[0] == f"checkpoint={tmp_path}/jobs/microtubules/pmrf/run/checkpoints/best.ckpt"
    page = (tmp_path / "table/table.md").read_text()
    assert "| pmrf_realistic | 5 | 56 + 24 | 1 |" in page


def test_rows_of_conclusions_are_trained_with_every_seed_and_their_own_regressor(run, commands, tmp_path):
    overrides = ["budget.steps=80", "only=[gaussian,pmrf,pmrf_realistic]"]
    assert run(*overrides).code == 0
    assert run(*overrides, "seeds=[0,1]").code == 0
    jobs = [
        (Path(o[-1].partition("=")[2]).parent.name, o) for *_, verb, o in commands.called if verb == "train"
    ]
    assert [name for name, _ in jobs] == ["regression_two_thirds_seed1", "pmrf_seed1"], "seed 0 is kept"
    assert all("seed=1" in o for _, o in jobs)
    regressor = tmp_path / "jobs/microtubules/regression_two_thirds_seed1/run/checkpoints/best.ckpt"
    assert f"model.mean={regressor}" in jobs[1][1]
    page = (tmp_path / "table/table.md").read_text()
    assert "| pmrf, average of 2 | 2 | 23 [" in page and page.count("| gaussian |") == 2
    assert (tmp_path / "table/seeds.csv").is_file()


def test_every_row_is_evaluated_without_augmentation_and_with_it(run, commands, tmp_path):
    """The repetitions with other seeds only without: what augmentation changes is paired within a training."""
    assert run("budget.steps=80", "only=[gaussian,care,pmrf_realistic]", "seeds=[0,1]").code == 0
    found = {}
    for _, method, verb, overrides in commands.called:
        if verb == "evaluate":
            key = method, "seed=1" in overrides
            found.setdefault(key, []).append([o for o in overrides if o.startswith("tta=")])
    assert all(
        tta == ([["tta=false"]] if other else [["tta=false"], ["tta=8"]]) for (_, other), tta in found.items()
    )
    assert {method for method, other in found if not other} == {
        "gaussian",
        "care",
        "regression_two_thirds",
        "pmrf",
        "pmrf_realistic",
    }
    assert (tmp_path / "table/table_tta.md").is_file() and (tmp_path / "table/tta.csv").is_file()


@pytest.mark.parametrize("size", ["small", "full"])
def test_a_row_of_two_stages_has_the_budget_of_the_others(run, commands, tmp_path, size):
    """In seconds, of each stage by its own speed, and in steps."""
    methods = compose.compose("benchmark", [f"methods={size}"]).methods
    chains = {
        name: [one for one in (method.get("mean"), name) if one]
        for name, method in methods.items()
        if method.get("budget")
    }
    total = {name: sum(methods[one].budget for one in chain) for name, chain in chains.items()}
    shorter = total.pop("regression_two_thirds")
    assert set(total.values()) == {1} and shorter < 1
    assert {"pmrf", "residual_flow", "scored"} == {name for name, chain in chains.items() if len(chain) == 2}
    assert (
        run(
            f"methods={size}", "budget.seconds=20000", "only=[pmrf,residual_flow,scored,care,regression]"
        ).code
        == 0
    )
    steps = {
        m: steps_of(o)
        for _, m, verb, o in commands.called
        if verb == "train" and "callbacks=step_time" not in o
    }
    for name in ("pmrf", "residual_flow", "scored", "care", "regression"):
        seconds = sum(steps[one] * PACE[one] * 1.1 for one in chains[name])
        assert seconds == pytest.approx(20000, rel=0.02), name


@pytest.mark.parametrize(("steps", "expected", "interval"), [(1000, 990, 30), (80, 80, 10), (2, 2, 1)])
def test_a_method_may_be_validated_as_often_as_its_authors_do(run, commands, steps, expected, interval):
    """But at least eight times, if there are as many steps."""
    assert run(f"budget.steps={steps}", "only=[care]", "+methods.care.validate_every=30").code == 0
    (overrides,) = [o for *_, verb, o in commands.called if verb == "train"]
    assert {f"trainer.max_steps={expected}", f"+trainer.val_check_interval={interval}"} <= set(overrides)


def test_what_is_done_is_kept_and_what_is_new_joins(run, commands):
    assert run("budget.steps=80", "only=[gaussian,care]").code == 0
    assert {method for _, method in commands.trained()} == {"gaussian", "care"}
    assert run("budget.steps=80", "only=[gaussian,care]").code == 0
    assert commands.called == []
    assert run("budget.steps=80", "only=[pmrf]").code == 0
    assert [method for _, method in commands.trained()] == ["regression_two_thirds", "pmrf"]


def test_a_job_of_other_settings_is_neither_used_nor_lost(run, commands, tmp_path):
    assert run("budget.steps=80", "only=[care]").code == 0
    answer = run("budget.steps=160", "only=[care]")
    assert answer.code == 2 and "other settings" in answer.err and "folder=DIR" in answer.err
    assert commands.called == []
    assert (tmp_path / "jobs/microtubules/care/job.json").is_file()


def test_an_interrupted_training_is_resumed(run, commands, tmp_path):
    checkpoint = tmp_path / "jobs/microtubules/care/run/checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"")
    commands.failing.add(("care", "train"))
    assert run("budget.steps=80", "only=[care,gaussian]").code == 3
    (overrides,) = [o for _, m, verb, o in commands.called if m == "care" and verb == "train"]
    assert overrides == (f"resume={tmp_path}/jobs/microtubules/care/run",)


def test_a_failing_job_leaves_the_others_and_says_so(run, commands, tmp_path):
    commands.failing.add(("care", "evaluate"))
    answer = run("budget.steps=80", "only=[gaussian,care,ddpm]")
    assert answer.code == 3 and "failed: care on microtubules" in answer.out
    page = (tmp_path / "table/table.md").read_text()
    assert "| ddpm, average of 15 |" in page and "| care |" not in page
    commands.failing.clear()
    assert run("budget.steps=80", "only=[gaussian,care,ddpm]").code == 0
    # Its training was finished: only what failed is done again.
    assert [(m, verb) for _, m, verb, _ in commands.called] == [("care", "evaluate")] * 2


@pytest.mark.parametrize(
    ("overrides", "subject"),
    [
        (["protocols=[]"], "protocols"),
        (["protocols=[affine,afine]"], "protocols"),
        (["only=ddpm"], "only"),
        (["train=x"], "train"),
        (["evaluate=null"], "evaluate"),
        (["+sets.mine='data=folder'"], "sets.mine"),
        (["sets=null"], "sets"),
        (["methods.care=null"], "methods.care"),
        (["budget=null"], "budget"),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(run, commands, overrides, subject):
    answer = run(*overrides)
    assert answer.code == 2 and answer.subject == subject and "allowed" in answer.err
    assert not commands.called


@pytest.mark.slow
def test_damaged_records(run, commands, tmp_path):
    overrides = ["only=[regression]", "budget.seconds=10"]
    assert run(*overrides).code == 0
    (tmp_path / "jobs" / "pace.json").write_text('{"regression": 0}')
    assert run(*overrides).code == 0 and commands.measured()
    record = tmp_path / "jobs" / "microtubules" / "regression" / "job.json"
    malformed = {"train": 5, "evaluate": [None], "parameters": 1, "seconds_per_sample": 1}
    for content in ("{", "{}", json.dumps(malformed)):
        record.write_text(content)
        answer = run(*overrides)
        assert answer.code == 2 and f"{record}: is damaged" in answer.err
    record.unlink()
    assert run(*overrides).code == 0 and not commands.trained()


def test_names_that_do_not_exist_are_refused(run):
    answer = run("only=[regresion]")
    assert answer.code == 2 and "did you mean regression" in answer.err
    answer = run("budget.steps=0")
    assert answer.code == 2 and "budget.steps" in answer.err
