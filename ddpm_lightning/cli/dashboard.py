"""Makes a W&B workspace and a report that compare methods and data sets.

Examples:
  ddpm-lightning dashboard entity=my_team                    saves both to W&B, and their definitions here
  ddpm-lightning dashboard                                   no account: only the definitions, in dashboard/

Needs `pip install "ddpm-lightning[dashboard]"`. Runs get there by `train logger=wandb`.
"""

from omegaconf import DictConfig

from ddpm_lightning.cli import compose
from ddpm_lightning.reporting.dashboard import DashboardSettings, make_dashboard

__all__ = ["run"]


def run(config: DictConfig) -> int:
    """Writes the definitions, and saves both to W&B if there is an account."""
    values = compose.plain(config)
    del values["trust"]  # no file with classes is read
    made = make_dashboard(DashboardSettings.of(values))
    print(f"definitions  {made.folder / 'workspace.json'}, {made.folder / 'report.json'}")
    for name, address in made.addresses.items():
        print(f"{name:<12} {address}")
    if not made.addresses:
        print("nothing was sent: give entity=NAME to save them to W&B")
    return 0
