import numpy as np
import pytest

from ddpm_lightning.io.image import ImageInfo, TiffTags, invert_white, to_dtype


def info(axes, shape, dtype="uint16", **fields):
    return ImageInfo(axes, shape, np.dtype(dtype), **fields)


def test_planes_follow_the_order_of_a_numpy_reshape():
    image = info("TZCYX", (2, 3, 4, 5, 6))
    stack = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    planes = list(image.planes())
    assert [stack[plane.index] for plane in planes] == [plane.number for plane in planes] == list(range(24))
    assert planes[17].label == "t1_z1_c1"
    assert image.plane_count == 24 and image.plane_shape == (5, 6)


@pytest.mark.parametrize(
    ("axes", "shape", "labels"),
    [
        ("YX", (4, 4), [""]),
        ("QYX", (1, 4, 4), [""]),
        ("TCYX", (1, 2, 4, 4), ["c0", "c1"]),
        ("QQYX", (2, 1, 4, 4), ["q0", "q1"]),
    ],
)
def test_labels_leave_out_axes_of_length_one(axes, shape, labels):
    assert [plane.label for plane in info(axes, shape).planes()] == labels


@pytest.mark.parametrize(("axes", "shape"), [("YX", (1, 2, 3)), ("YXZ", (1, 2, 3)), ("XY", (2, 3))])
def test_axes_must_match_the_shape_and_end_in_a_plane(axes, shape):
    with pytest.raises(ValueError, match="must end in 'YX'"):
        info(axes, shape)


def test_with_channels_keeps_names_and_remembers_the_source():
    image = info("TCYX", (2, 3, 8, 9), channel_names=("dapi", "gfp", "rfp"))
    two = image.with_channels([2, 0])
    assert (two.axes, two.shape) == ("TCYX", (2, 2, 8, 9))
    assert (two.channel_names, two.channels) == (("rfp", "dapi"), (2, 0))
    one = two.with_channels([0])
    assert (one.axes, one.shape, one.channel_names, one.channels) == ("TYX", (2, 8, 9), ("rfp",), (2,))


@pytest.mark.parametrize(
    ("dtype", "values", "expected", "low", "high"),
    [
        ("uint8", [-0.4, -0.6, 0.5, 1.5, 254.4, 255.4, 255.6], [0, 0, 0, 2, 254, 255, 255], 1, 1),
        ("uint16", [-1, 65534.6, 65535.5, 70000], [0, 65535, 65535, 65535], 1, 2),
        ("int16", [-32769, -32768.4, 3.49, 32767.4, 4e4], [-32768, -32768, 3, 32767, 32767], 1, 1),
        ("uint32", [-5, 4294967040, 4294967296, 1e12], [0, 4294967040, 4294967295, 4294967295], 1, 2),
        ("int64", [-1e19, 2.0**62, 2.0**63], [-(2**63), 2**62, 2**63 - 1], 1, 1),
    ],
)
def test_to_dtype_rounds_and_counts_what_it_clips(dtype, values, expected, low, high):
    converted, below, above = to_dtype(np.array(values, np.float32), dtype)
    assert converted.dtype == dtype
    assert converted.tolist() == expected
    assert (below, above) == (low, high)


def test_to_dtype_stays_within_the_significant_bits():
    converted, below, above = to_dtype(np.array([[-3.0, 4095.4], [4096.0, 9999.0]]), "uint16", bits=12)
    assert converted.tolist() == [[0, 4095], [4095, 4095]]
    assert (below, above) == (1, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_to_dtype_leaves_floats_alone(dtype):
    values = np.array([-1.5, 0.0, 1e30])
    converted, below, above = to_dtype(values, dtype)
    np.testing.assert_array_equal(converted, values.astype(dtype))
    assert (below, above) == (0, 0)


def test_to_dtype_clips_floats_that_the_type_cannot_hold():
    converted, below, above = to_dtype(np.array([-1e6, 1.0, 1e6]), "float16")
    assert converted.tolist() == [-65504.0, 1.0, 65504.0]
    assert (below, above) == (1, 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_to_dtype_is_exact_on_what_the_type_holds(dtype):
    limits = np.iinfo(dtype)
    values = np.linspace(limits.min, limits.max, 1001).astype(np.int64)
    converted, below, above = to_dtype(values.astype(np.float64), dtype)
    np.testing.assert_array_equal(converted, values)
    assert (below, above) == (0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_to_dtype_refuses_values_that_are_not_numbers(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_dtype(np.array([1.0, bad]), "uint8")


@pytest.mark.parametrize(("dtype", "bits", "white"), [("uint8", None, 255), ("uint16", 12, 4095)])
def test_turn_white_makes_light_a_large_number_and_back(dtype, bits, white):
    tags = TiffTags("YX", (1, 3), np.dtype(dtype), photometric="miniswhite")
    image = info("YX", (1, 3), dtype, bits=bits, tags=tags)
    stored = np.array([[0, 1, white]], dtype)
    tta = invert_white(stored, image)
    assert tta.tolist() == [[white, white - 1, 0]]
    np.testing.assert_array_equal(invert_white(tta, image), stored)


def test_turn_white_passes_other_images():
    pixels = np.array([[0, 7]], np.uint8)
    assert invert_white(pixels, info("YX", (1, 2), "uint8")) is pixels
