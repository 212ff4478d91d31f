"""FMD: both layouts give the same frames, the protocol is the published one, and a wrong harness is noticed."""

import shutil

import numpy as np
import pytest
import tifffile
from skimage import io

from ddpm_lightning.utils.errors import UserError
from experiments import common
from experiments.fmd import protocol, run
from experiments.fmd.images import KINDS, find
from tests.forks import fork_jobs


def planes(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    high = rng.integers(10, 60, (side, side), dtype=np.uint8)
    return rng.poisson(high).astype(np.uint8), high


def published(root, kinds=KINDS, frames=(1, 2, 3, 4)):
    for part in ("raw", "gt"):
        (root / "test_mix" / part).mkdir(parents=True)
    for number, kind in enumerate(kinds):
        for frame in frames:
            low, high = planes(number)
            io.imsave(root / "test_mix" / "raw" / f"{kind}_{frame}.png", low, check_contrast=False)
            io.imsave(root / "test_mix" / "gt" / f"{kind}_{frame}.png", high, check_contrast=False)
    return root


def listed(root, kinds):
    lines = ["split,id,source_low"]
    for number, kind in enumerate(kinds):
        for part, plane in zip(("low", "high"), planes(number), strict=True):
            (root / "test" / part).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(root / "test" / part / f"{number:05d}.tif", plane)
        lines.append(f"test,{number:05d},data/raw/{kind}_1.png")
    (root / "index.csv").write_text("\n".join(lines))
    return root


def test_the_archive_and_a_folder_of_pairs_hold_the_same_frames(tmp_path):
    kinds = KINDS[:3]
    of_archive = find({"a": published(tmp_path / "archive", kinds, (1,))})
    of_pairs = find({"other": tmp_path, "b": listed(tmp_path / "pairs", kinds)})
    assert (
        [image.name for image in of_archive]
        == [image.name for image in of_pairs]
        == [f"{k}_1" for k in kinds]
    )
    for one, other in zip(of_archive, of_pairs, strict=True):
        np.testing.assert_array_equal(one.low, other.low)
        np.testing.assert_array_equal(one.high, other.high)


def test_all_48_frames_of_the_archive_are_found(tmp_path):
    images = find({"fmd": published(tmp_path)})
    assert len(images) == 48 and [image.kind for image in images[::4]] == list(KINDS)


def test_a_folder_without_fmd_and_a_frame_without_reference_are_refused(tmp_path):
    with pytest.raises(UserError) as error:
        find({"x": tmp_path})
    assert error.value.subject == "--pairs"
    root = published(tmp_path / "archive", KINDS[:1], (1,))
    missing = root / "test_mix" / "gt" / f"{KINDS[0]}_1.png"
    missing.unlink()
    with pytest.raises(UserError) as error:
        find({"x": root})
    assert error.value.subject == missing


def test_scores_are_of_8_bit_images_with_range_255():
    low, high = planes(0, 512)
    image = low + np.random.default_rng(1).normal(0, 30, low.shape)
    scores = protocol.scores(image, high)
    rounded = np.clip(np.rint(image), 0, 255)

    def psnr(part=np.s_[:]):
        return 10 * np.log10(255**2 / np.mean((rounded[part] - high[part]) ** 2))

    assert scores["psnr"] == pytest.approx(psnr(), abs=1e-6)
    quarters = [np.s_[:256, :256], np.s_[:256, 256:], np.s_[256:, :256], np.s_[256:, 256:]]
    assert scores["psnr_crops"] == pytest.approx(np.mean([psnr(part) for part in quarters]), abs=1e-6)
    # Gain and offset matter, except after a fit.
    other = protocol.scores(2 * image + 5, high)
    assert other["psnr"] < scores["psnr"] - 3
    assert other["psnr_affine"] == pytest.approx(scores["psnr_affine"], abs=1e-3)


def test_raw_frames_that_are_not_the_published_ones_are_refused():
    rows = [{"method": "raw", "psnr": "27.25"}] * 48
    run.check_raw(rows)
    with pytest.raises(UserError):
        run.check_raw([{"method": "raw", "psnr": "29"}] * 48)
    run.check_raw([{"method": "raw", "psnr": "29"}] * 32)  # a part of the set has another mean


def test_of_several_versions_each_score_is_the_best(tmp_path):
    frame = find({"fmd": published(tmp_path / "a", KINDS[:1], (1,))})[0]
    rows = common.Rows(tmp_path / "rows.csv", {}, ("image", "method"))
    run.add(rows, [frame], "best blur", lambda frame: common.blurred(frame.low))
    found = [protocol.scores(image, frame.high) for image in common.blurred(frame.low)]
    row = common.read(tmp_path / "rows.csv")[0]
    assert float(row["psnr"]) == pytest.approx(max(scores["psnr"] for scores in found), rel=1e-4)
    run.add(rows, [frame], "best blur", lambda frame: pytest.fail("is computed again"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_noise2void_is_trained_on_the_frames_of_each_kind(tmp_path, capsys, monkeypatch):
    fork_jobs(capsys, monkeypatch)
    frames = find({"fmd": published(tmp_path / "a", KINDS[:2], (1, 2))})
    training = ["budget.steps=2", 'evaluate=["limit=1"]', "center_crop=32"]
    options = common.Options(
        {"frames": 2}, "default", tmp_path / "models", {}, None, tmp_path, tmp_path, training
    )
    trained = run.trainings(options, frames)
    assert [*trained] == [*KINDS[:2]]
    restored = run._restored(trained[KINDS[0]], frames[0])
    assert abs(restored.mean() - frames[0].low.mean()) < 10  # in grey values of the frame
    shutil.rmtree(tmp_path / "frames")
    assert run.trainings(options, frames)  # nothing is trained twice
