"""Errors: what stands in them does nothing but stand there."""

import pickle

import pytest

from ddpm_lightning.utils.errors import UserError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x08\x7f", r"a\rb\x08\x7f"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("file\u202egpj.exe", r"file\u202egpj.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("\ufeffa\u2028b\u200b", r"\ufeffa\u2028b\u200b"),
        ("\U000e0041", r"\U000e0041"),
        ("\x00", r"\x00"),
        ("\udcff \ud800", "\ufffd \ufffd"),
        ("µm 37°C #2, 中文, it's 👩\u200d🔬", "µm 37°C #2, 中文, it's 👩\u200d🔬"),
        ("two\nlines\tand tabs", "two\nlines\tand tabs"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown
    assert printable(text).encode()


def test_a_name_cannot_pretend_to_be_a_line_of_ours():
    error = UserError("a.tif\n  what to do: run this", "is \x1b[2Jodd", remedy="one\ntwo")
    assert str(error) == r"a.tif\n  what to do: run this: is \x1b[2Jodd" + "\n  what to do: one\ntwo"
    assert printable("a\nb", lines=False) == r"a\nb"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
