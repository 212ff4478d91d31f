"""Synapses: confocal against Airyscan, brain slices.

=============== ======================================================================================================
modality        confocal (low), Airyscan (high): the task changes the modality, not only the noise
pixel           95 nm; slices 0.33 or 1 µm apart
paper           24 volumes of 550 x 550 x 20; 1198 / 56 / 112 pairs of 256 x 256; rigidly registered, padded alike
source          Xu et al. 2023 (XTC). No public address of the training volumes was found
=============== ======================================================================================================

The counts of the paper are about 21, 1 and 2 volumes times 57 crops, that is about 14 slices times 4. Which slices were
left out is not published: all are used here, and ``data.preparation.least_foreground`` leaves out empty crops. One
motion per volume, found on the mean over its slices, registers all of them.
"""

from ddpm_lightning.datasets.preparation.download import Remote
from ddpm_lightning.datasets.preparation.layouts import PairedFolders
from ddpm_lightning.datasets.published import RELEASE_SPLITS, Card, PublishedData

__all__ = ["Synapses"]


class Synapses(PublishedData):
    """Confocal and Airyscan images of synapses; see :class:`PublishedData`."""

    card = Card(
        name="synapses",
        title="Confocal and Airyscan images of synapses in brain slices.",
        modality="confocal (low) and Airyscan (high)",
        specimen="slices of mouse cortex, AMPA receptors tagged with super-ecliptic pHluorin",
        pixel_size=0.095,
        sizes={"train": 1198, "val": 56, "test": 112},
        source="Xu et al. 2023, code at github.com/tigeryuxu/Xu_and_Graves_XTC_syn_tracking",
        citation="Cross-modality supervised image restoration enables nanoscale tracking of synaptic plasticity in "
        "living mice (Xu et al., Nature Methods 20, 935, 2023), https://doi.org/10.1038/s41592-023-01871-6",
        licence="that of the data is not known (the code is MIT)",
        unknown=(
            "where the training volumes are published; the expected layouts are those of CARE and of the release",
            "which slices and which volumes the paper used",
            "the distance between slices: 0.33 or 1 µm",
        ),
        remote=Remote(
            "XTC_training_volumes.zip",
            page="no address is known; ask the authors of https://doi.org/10.1038/s41592-023-01871-6 for the pairs of "
            "confocal and Airyscan volumes (their repository links a SharePoint folder and a Code Ocean capsule), and "
            "lay them out as low/NAME.tif beside GT/NAME.tif",
        ),
        layouts=(
            PairedFolders("low_padded", "high_registered", RELEASE_SPLITS, registered=True),
            PairedFolders("low", "GT"),
            PairedFolders("confocal", "airyscan"),
        ),
    )
