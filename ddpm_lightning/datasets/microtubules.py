"""Microtubules: STED of fixed cells at low and high light dose.

=============== ======================================================================================================
modality        STED (Abberior Expert Line, 60x/1.42 oil, 640 nm excitation, 775 nm depletion at 60 mW in both images)
low, high       1.5 µW and 1.5 µs; 10.6 µW and 25 µs excitation power and total dwell time: dose 1 : 17
paper           104 fields of view; 1272 / 89 / 265 pairs of 256 x 256 pixels; rigidly registered, padded alike
source          Zenodo record 14215838, folder ``fixed_cell_microtubule_u2os_alphatubulin_star635p`` with
                ``{training,test}_data/{low_intensity,ground_truth}_image_patches/NAME.png``, not registered
=============== ======================================================================================================

``training_data`` has as many patches as the paper's training set and is used for training. The fields of ``test_data``
are divided between validation and test as 89 : 265.
"""

from ddpm_lightning.datasets.preparation.layouts import PairedFolders
from ddpm_lightning.datasets.published import RELEASE_SPLITS, ZENODO, Card, PublishedData, zenodo_archive

__all__ = ["Microtubules"]

NAME = "fixed_cell_microtubule_u2os_alphatubulin_star635p"


class Microtubules(PublishedData):
    """STED of microtubules; see :class:`PublishedData`."""

    card = Card(
        name="microtubules",
        title="STED images of microtubules at low and high light dose (1 : 17).",
        modality="STED, both images with the same depletion",
        specimen="fixed U2OS cells, alpha-tubulin, immunostained with STAR 635P",
        pixel_size=0.025,
        sizes={"train": 1272, "val": 89, "test": 265},
        source=f"{ZENODO}, {NAME}",
        unknown=(
            "the name of the file in the record: it was inferred from that of the mitochondria",
            "which patches belong to one field of view: their names are not documented; by default each patch is one, "
            "unless data.preparation.field_pattern distinguishes them",
            "how the paper obtained 89 and 265 patches: another user of the record counted 47 in test_data",
            "the original size of the images: the paper prints 2560 x 2560, its counts fit 1024 x 1024",
        ),
        remote=zenodo_archive(NAME),
        layouts=(
            PairedFolders(
                "low_intensity_image_patches", "ground_truth_image_patches", {"training_data": "train"}
            ),
            PairedFolders("low_padded", "high_registered", RELEASE_SPLITS, registered=True),
        ),
    )
