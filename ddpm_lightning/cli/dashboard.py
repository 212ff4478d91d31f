"""Makes a W&B workspace and a report that compare methods and data sets.

Examples:
  ddpm-lightning dashboard entity=my_team                    saves both to W&B, and their definitions here
  ddpm-lightning dashboard                                   no account: only the definitions, in dashboard/

Needs `pip install "ddpm-lightning[dashboard]"`. `train logger=wandb` logs runs to W&B.
"""

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.reporting.dashboard import DashboardSettings, make_dashboard

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Writes the definitions, and saves both to W&B if there is an account."""
    made = make_dashboard(compose.settings(config, DashboardSettings))
    print(f"definitions  {made.folder / 'workspace.json'}, {made.folder / 'report.json'}")
    for name, address in made.addresses.items():
        print(f"{name:<12} {address}")
    if not made.addresses:
        print("nothing was sent to W&B: add entity=NAME to save them there")
    return 0
