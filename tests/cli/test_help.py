"""``--help`` answers at once: it reads files, and imports nothing that takes long."""

import subprocess
import sys

import pytest

from ddpm_lightning.cli.help import VERBS, overview, verb_help
from ddpm_lightning.cli.tree import choices, groups_of, summary

HEAVY = ("torch", "lightning", "hydra", "omegaconf", "numpy", "pydantic", "wandb")


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom ddpm_lightning.cli.main import main\n"
        f"for arguments in ([], ['--version'], *([verb, '--help'] for verb in {[*VERBS]})):\n"
        "    sys.argv = ['ddpm-lightning', *arguments]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "" and "usage: ddpm-lightning VERB" in done.stdout


@pytest.mark.parametrize(
    ("verb", "groups"),
    [
        (
            "train",
            ("model", "model/lr_schedule", "data", "data/degradations", "trainer", "logger", "experiment"),
        ),
        ("evaluate", ("data", "sampler", "sweep")),
        ("restore", ("sampler",)),
        ("demo", ("model", "data", "trainer")),
        ("compare", ()),
    ],
)
def test_help_shows_all_choices_with_a_line_on_each(verb, groups):
    assert set(groups) <= set(groups_of(verb))
    lines = [line.split() for line in verb_help(verb).splitlines() if line.startswith("  ")]
    described = {words[0] for words in lines if len(words) > 2}
    for group in groups_of(verb):
        assert described >= set(choices(group)), group
        assert all(len(summary(group, name)) > 10 for name in choices(group))


def test_help_shows_presets():
    for verb in ("restore", "evaluate", "export"):
        assert "uncertainty  " in verb_help(verb)
    assert all(verb in overview() for verb in VERBS)
