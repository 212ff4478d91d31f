"""Draws the figure of the simulated sets in train.md: ``python docs/simulated_sets.py``."""

import io
from pathlib import Path

from PIL import Image

from ddpm_lightning.datasets.simulated import SimulatedPairs
from ddpm_lightning.simulation.contact_sheet import contact_sheet
from ddpm_lightning.simulation.specimens import SPECIMENS

SIZE, SAMPLES, DPI = 192, 3, 110


def main(figure: Path) -> None:
    """Samples three pairs of each set and the truth behind them, in 128 colours to keep the file small."""
    sources = {f"simulated_{name}": SimulatedPairs(name, "test", SAMPLES, SIZE) for name in SPECIMENS}
    drawn = io.BytesIO()
    contact_sheet(sources, SAMPLES, SIZE / DPI, truth=True).savefig(drawn, dpi=DPI)
    Image.open(drawn).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        figure, optimize=True
    )


if __name__ == "__main__":
    main(Path(__file__).parent / "simulated_sets.png")
