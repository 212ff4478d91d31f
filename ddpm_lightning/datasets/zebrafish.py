"""Zebrafish: confocal, one capture against the mean of fifty.

=============== ======================================================================================================
low, high       one capture; mean of 50 captures, of which it is one: a fiftieth of its noise is in the target
paper           20 fields of view of 512 x 512; 3600 / 200 / 200 pairs of 256 x 256 (18, 1, 1 fields times
                4 crops times 50 captures); not registered
source          FMD (Zhang et al. 2019), ``Confocal_FISH.tar`` with ``Confocal_FISH/raw/{1..20}/*.png`` (50 each) and
                ``Confocal_FISH/gt/{1..20}/avg50.png``, 8 bit
=============== ======================================================================================================

Field 19 is the test field of FMD's own benchmark. The paper does not state its test and validation fields; field 20 is
used for validation here. The 200 test images show only four different regions, so they say little about other regions.
"""

from ddpm_lightning.datasets.preparation.download import Remote
from ddpm_lightning.datasets.preparation.layouts import PairedFolders, RepeatedCaptures
from ddpm_lightning.datasets.published import RELEASE_SPLITS, Card, PublishedData

__all__ = ["Zebrafish"]


class Zebrafish(PublishedData):
    """Confocal images of zebrafish; see :class:`PublishedData`."""

    card = Card(
        name="zebrafish",
        title="Confocal images of zebrafish embryos: one capture and the mean of 50.",
        modality="confocal",
        specimen="fixed zebrafish embryos, 2 days post fertilisation, Tg(sox10:megfp)",
        pixel_size=None,
        sizes={"train": 3600, "val": 200, "test": 200},
        source="Fluorescence Microscopy Denoising (FMD) data set, Confocal_FISH",
        citation="A Poisson-Gaussian denoising dataset with real fluorescence microscopy images (Zhang et al., CVPR "
        "2019), https://arxiv.org/abs/1812.10366; data https://doi.org/10.7274/r0-ed2r-4052",
        licence="that of the data is not known (published for research, citation requested; the code is MIT)",
        unknown=("the size of a pixel", "which fields of view the paper validated and tested on"),
        remote=Remote(
            "Confocal_FISH.tar",
            ("https://ndownloader.figshare.com/files/43648074",),
            page="https://curate.nd.edu/articles/dataset/Fluorescence_Microscopy_Denoising_FMD_dataset/24744648 or "
            "https://drive.google.com/drive/folders/1aygMzSDdoq63IqSk-ly8cMq0_owup8UM, the file Confocal_FISH.tar",
        ),
        layouts=(
            RepeatedCaptures("Confocal_FISH"),
            PairedFolders("low", "high", RELEASE_SPLITS, registered=True),
        ),
    )
