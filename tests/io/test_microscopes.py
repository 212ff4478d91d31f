"""Small CZI and LIF files, read by the readers of bioio; they need the extra ``microscopes``."""

import struct

import numpy as np
import pytest

from ddpm_lightning.inference.restore_file import restore_file
from ddpm_lightning.inference.restorer import Restorer
from ddpm_lightning.inference.result_files import FileSettings
from ddpm_lightning.inference.sources import find_files
from ddpm_lightning.io.stacks import open_stack
from ddpm_lightning.io.tiff import TiffStack
from tests.trained import write_checkpoint

pytest.importorskip("bioio", reason="needs the extra microscopes: pip install 'ddpm-lightning[microscopes]'")
#: T, C, Z, Y, X.
PIXELS = np.random.default_rng(0).poisson(30, (2, 2, 3, 40, 48)).astype(np.uint16)


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return Restorer.load(write_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt"), "cpu")


def write_czi(path):
    """By the library of Zeiss."""
    czi = pytest.importorskip("pylibCZIrw.czi", reason="pip install pylibCZIrw writes the file")
    with czi.create_czi(str(path)) as document:
        for t, c, z in np.ndindex(PIXELS.shape[:3]):
            document.write(PIXELS[t, c, z][..., None], plane={"T": t, "C": c, "Z": z})
        document.write_metadata(
            document_name="a",
            channel_names={0: "DAPI", 1: "GFP"},
            scale_x=0.1e-6,
            scale_y=0.1e-6,
            scale_z=0.5e-6,
        )
    return path


def write_lif(path):
    """By its published layout: a header, XML, and blocks of pixels. It has two images, the second with one plane."""
    names, blocks, elements = ("Series/1", "Series/2"), (PIXELS, PIXELS[:1, :1, :1]), ""
    for number, (name, block) in enumerate(zip(names, blocks, strict=True)):
        _, count, depth, height, width = block.shape
        plane = height * width * 2
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" NameOfMeasuredQuantity="" '
            f'Min="0" Max="65535" Unit="" LUTName="{lut}" IsLUTInverted="0" BytesInc="{c * plane}" BitInc="0"/>'
            for c, lut in zip(range(count), ("Blue", "Green"), strict=False)
        )
        dimensions = ""
        sizes = ((1, width, 2, 1e-7, "m"), (2, height, 2 * width, 1e-7, "m"))
        sizes += ((3, depth, plane * count, 5e-7, "m"), (4, len(block), plane * count * depth, 2, "s"))
        for axis, size, step, length, unit in sizes:
            if size > 1:
                dimensions += (
                    f'<DimensionDescription DimID="{axis}" NumberOfElements="{size}" Origin="0" '
                    f'Length="{length * (size - (axis < 4))}" Unit="{unit}" BitInc="0" BytesInc="{step}"/>'
                )
        elements += (
            f'<Element Name="{name.split("/")[1]}" Visibility="1" CopyOption="1" UniqueID="id{number}"><Data>'
            f'<Image TextDescription=""><ImageDescription><Channels>{channels}</Channels><Dimensions>{dimensions}'
            f'</Dimensions></ImageDescription></Image></Data><Memory Size="{block.nbytes}" '
            f'MemoryBlockID="MemBlock_{number}"/><Children/></Element>'
        )
    xml = (
        f'<LMSDataContainerHeader Version="2"><Element Name="a" Visibility="1" CopyOption="1" UniqueID="r"><Data>'
        f'<Experiment Path=""/></Data><Memory Size="0" MemoryBlockID="MemBlock_9"/><Children><Element Name="Series" '
        f'Visibility="1" CopyOption="1" UniqueID="s"><Data/><Memory Size="0" MemoryBlockID="MemBlock_8"/><Children>'
        f"{elements}</Children></Element></Children></Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    content = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text
    for number, block in enumerate(blocks):
        name = f"MemBlock_{number}"
        ordered = np.ascontiguousarray(block.transpose(0, 2, 1, 3, 4))
        head = struct.pack("<BQBI", 0x2A, ordered.nbytes, 0x2A, len(name)) + name.encode("utf-16-le")
        content += struct.pack("<II", 0x70, len(head)) + head + ordered.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", ["czi", "lif"])
def test_a_file_is_restored_to_ome_tiff(restorer, tmp_path, ending):
    pytest.importorskip(f"bioio_{ending}")
    path = {"czi": write_czi, "lif": write_lif}[ending](tmp_path / f"a.{ending}")
    sources = find_files(path).sources
    with open_stack(sources[0].path) as stack:
        assert np.array_equal(np.stack(list(stack)).reshape(PIXELS.shape), PIXELS)
    record = restore_file(restorer, sources[0], tmp_path / "out", FileSettings(samples=1))
    with TiffStack(tmp_path / "out" / sources[0].name) as result:
        found = result.info
    assert (found.axes, found.shape, found.dtype) == ("TCZYX", PIXELS.shape, np.uint16)
    assert found.pixel_size == pytest.approx((0.1, 0.1)) and found.z_step == pytest.approx(0.5)
    if ending == "czi":
        assert found.channel_names == ("DAPI", "GFP") and len(sources) == 1
    else:
        assert found.time_step in (None, 2) and [one.name for one in sources] == [
            "a_Series_1.ome.tif",
            "a_Series_2.ome.tif",
        ]
    assert [note["kind"] for note in record["notes"]].count("left_aside") == 1
