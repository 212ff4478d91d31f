"""Mitochondria: STED of live cells at low and high light dose.

=============== ======================================================================================================
modality        STED (Abberior Expert Line, 60x/1.42 oil, 640 nm excitation, 775 nm depletion at 174 mW in both images)
low, high       1.5 µW and 2 µs; 8 µW and 20 µs excitation power and total dwell time: dose 1 : 10
paper           345 fields of view of 600 x 600 pixels; 2646 / 153 / 306 pairs of 256 x 256 pixels; not registered
source          Zenodo record 14215838, ``live_cell_mitochondria_u2os_tom20_halotag7_dm_sir.rar`` with
                ``test_and_training_data_{1,2}/{low_intensity,ground_truth}_images/NAME.tif``
=============== ======================================================================================================

The counts of the paper are 294, 17 and 34 fields times 9, so each field gives 3 x 3 crops, which overlap by 84 pixels.
The assignment of fields to splits is not published: here they are assigned by fractions.
"""

from ddpm_lightning.datasets.preparation.layouts import PairedFolders
from ddpm_lightning.datasets.published import RELEASE_SPLITS, ZENODO, Card, PublishedData, zenodo_archive

__all__ = ["Mitochondria"]

NAME = "live_cell_mitochondria_u2os_tom20_halotag7_dm_sir"


class Mitochondria(PublishedData):
    """STED of mitochondria; see :class:`PublishedData`."""

    card = Card(
        name="mitochondria",
        title="STED images of mitochondria in live cells at low and high light dose (1 : 10).",
        modality="STED, both images with the same depletion",
        specimen="live U2OS cells, TOM20-HaloTag7 with a transient SiR ligand",
        pixel_size=0.02,
        sizes={"train": 2646, "val": 153, "test": 306},
        source=f"{ZENODO}, {NAME}",
        unknown=(
            "which fields of view the paper trained, validated and tested on: they are split 294 : 17 : 34 at random",
            "whether the 9 crops of 600 x 600 pixels overlap or are padded; here they overlap",
        ),
        remote=zenodo_archive(NAME),
        layouts=(
            PairedFolders("low_intensity_images", "ground_truth_images"),
            PairedFolders("low", "high", RELEASE_SPLITS, registered=True),
        ),
    )
