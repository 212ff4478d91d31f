"""Noisy images of one place are one field of view, whatever their files are called."""

from dataclasses import replace

from ddpm_lightning.data.pairs import Pair
from ddpm_lightning.evaluation.image_scores import Scoring, score_images
from ddpm_lightning.evaluation.summary import by_place, summarise
from tests.evaluation.gaussian import GaussianRestorer, Posterior


class Repeated(Posterior):
    """Each clean image comes twice."""

    def __getitem__(self, index: int) -> Pair:
        pair = super().__getitem__(index // 2)
        return replace(pair, name=f"{index:03d}", field=f"file {index}")


def test_images_with_one_target_count_as_one_field():
    scoring = Scoring("range", samples=2, also=("affine",))
    scores = list(score_images(GaussianRestorer(), Repeated(6), scoring, range(6)))
    assert len({image.rows[0].field for image in scores}) == 6
    placed = by_place(scores)
    for rows in ([image.rows for image in placed], [image.also["affine"] for image in placed]):
        assert [row.field for image in rows for row in image[:1]] == [f"file {k}" for k in (0, 0, 2, 2, 4, 4)]
    wide, narrow = (
        summarise([row for image in images for row in image.rows])["average"]["psnr"]
        for images in (placed, scores)
    )
    assert (wide["fields"], narrow["fields"]) == (3, 6)
    assert wide["median"] == narrow["median"] and wide["mean_interval"] != narrow["mean_interval"]


def test_an_image_that_failed_keeps_its_field():
    scoring = Scoring("range", samples=2)
    scores = list(score_images(GaussianRestorer(), Posterior(2), scoring, range(2)))
    failed = [replace(image, target="", failed="damaged") for image in scores]
    assert [image.rows[0].field for image in by_place(failed)] == ["field 0", "field 1"]
