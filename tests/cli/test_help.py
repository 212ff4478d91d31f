"""``--help`` answers at once: it reads files, and imports nothing that takes long."""

import re
import subprocess
import sys

import pytest

from ddpm_lightning.cli.help import VERBS, overview, verb_help
from ddpm_lightning.cli.tree import choices, config_folder, groups_of, summary

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


@pytest.mark.parametrize("verb", VERBS)
def test_help_describes_every_group_and_choice(verb):
    lines = verb_help(verb).splitlines()
    described = {line.split()[0] for line in lines if re.match(r"  \w+ +\w+.+ ", line)}
    for group, (_, text) in groups_of(verb).items():
        assert len(text) > 5 and any(line.startswith(f"{group}=NAME: {text}") for line in lines), group
        assert choices(group) and described >= set(choices(group)), group
        assert all(len(summary(group, name)) > 10 for name in choices(group)), group


def test_help_reaches_every_group():
    shown = {group for verb in VERBS for group in groups_of(verb)}
    folders = {
        path.parent.relative_to(config_folder()).as_posix() for path in config_folder().rglob("*.yaml")
    }
    groups = {folder for folder in folders if folder != "." and choices(folder)}
    assert groups - shown == {"hydra/launcher"}  # a group of Hydra, which documents it


def test_help_shows_presets():
    for verb in ("restore", "evaluate", "export"):
        assert "uncertainty  " in verb_help(verb)
    assert all(verb in overview() for verb in VERBS)
