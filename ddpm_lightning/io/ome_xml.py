"""The OME-XML of one file: which of the images that it describes are stored in the TIFF.

An OME-XML may describe more than its file contains: the other files of a set, and planes of an interrupted recording
that were never written. :func:`xml_of_file` edits it so that it describes exactly the planes of this file. Every reader
(tifffile, and programs that open the result) then finds what is described.

References:
    The OME-TIFF specification, https://docs.openmicroscopy.org/ome-model, on TiffData, UUID and BinaryOnly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from xml.etree import ElementTree

from tifffile import PHOTOMETRIC, TiffFile

from ddpm_lightning.io.grids import Place, complete_part
from ddpm_lightning.io.notes import Note, counted
from ddpm_lightning.io.ome_edit import drop_children, drop_other_images, renumber
from ddpm_lightning.io.tiff_layout import is_thumbnail
from ddpm_lightning.utils.errors import UserError, printable

__all__ = ["xml_of_file"]

Element = ElementTree.Element
MODULO = "openmicroscopy.org/omero/dimension/modulo"
#: Maximum number of planes that a TiffData may describe: more than any file contains.
MOST = 10_000_000


@dataclass
class _Image:
    """An Image of the XML.

    Attributes:
        image: The element.
        pixels: Its Pixels.
        axes: Z, C and T, the slowest first.
        sizes: Length of each of them, in stored planes.
        own: Page of each plane in this file.
        elsewhere: Planes in other files.
    """

    image: Element
    pixels: Element
    axes: str
    sizes: tuple[int, ...]
    own: dict[Place, int]
    elsewhere: set[Place]


def xml_of_file(tif: TiffFile, path: Path, pages: int) -> tuple[str | None, list[Note]]:
    """Returns the OME-XML of the planes of a file.

    Args:
        tif: The open file, an OME-TIFF.
        path: Its path.
        pages: Number of intact pages, counted from the first.

    Returns:
        The edited XML, ``None`` if that of the file can be used unchanged, or an empty string if it cannot be used; and
        notes on what is guessed and what is missing.

    Raises:
        UserError: If a plane is missing between others.
    """
    if not pages:
        return "", []  # no plane is complete, whatever is described
    try:
        root = ElementTree.fromstring(tif.ome_metadata or "")
        companion, notes = root.find("{*}BinaryOnly"), []
        if companion is not None and (root := _companion(companion, path)) is None:
            raise ValueError(f"it is in the file {companion.get('MetadataFile', '')!r}, which is missing")
        images = list(_images(root, path, len(tif.pages), notes))
        sound = [one for one in images if any(page < pages for page in one.own.values())]
        size = tif.pages.first.shaped[2:4]
        if full := _behind_thumbnail(tif, sound):
            size = _size(full.pixels)
            text = f"the first image, {sound[0].image.get('Name') or sound[0].image.get('ID')}, is ignored as a colour"
            notes.append(Note("left_aside", 1, f"{printable(text)} thumbnail of the image {size}"))
        fitting = [one for one in sound if _size(one.pixels) == size]
        if not fitting:
            named = any(one.own for one in images)
            raise ValueError(
                "it does not describe an image of this size" if named else "it describes other files"
            )
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        text = f"the OME-XML cannot be used ({printable(str(error))}): axes, channel names and pixel size are unknown"
        return "", [Note("guessed", 1, text)]
    chosen = fitting[0]
    others = [one for one in sound[1 if full else 0 :] if one is not chosen]
    kept, missing = _kept(chosen, path, pages)
    whole = tuple(map(len, kept)) == chosen.sizes
    named = {(link.text or "").strip() for link in root.iterfind(".//{*}TiffData/{*}UUID")}
    if whole and not full and companion is None and named <= {root.get("UUID")}:
        return None, notes
    if not whole and root.find(f".//*[@Namespace='{MODULO}']") is not None:
        raise UserError(
            path,
            f"truncated: {counted(missing, 'plane is', 'planes are')} missing",
            "complete files",
            "copy it again",
        )
    if others:
        count = sum(len(one.own) for one in others)
        text = f"only one of {len(others) + 1} images is used; planes of the others are ignored: {count}"
        notes.append(Note("left_aside", count, text))
    dropped = sum(page < pages for page in chosen.own.values()) - prod(map(len, kept))
    if missing or dropped:
        notes.append(_missing_note(chosen, kept, missing, dropped))
    return _edited(root, chosen, kept), notes


def _behind_thumbnail(tif: TiffFile, images: list[_Image]) -> _Image | None:
    """Returns the largest grey image if the first one is a small copy of it in colour; else ``None``."""
    if len(images) < 2:
        return None
    first, *others = (tif.pages[min(one.own.values())].aspage() for one in images)
    largest = max(others, key=lambda page: page.imagelength * page.imagewidth)
    colour = first.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    return images[1 + others.index(largest)] if colour and is_thumbnail(first, largest) else None


def _companion(reference: Element, path: Path) -> Element | None:
    """Returns the XML that a file of a set refers to, with the file's identifier; ``None`` if it is missing."""
    name = Path(reference.get("MetadataFile", "").replace("\\", "/")).name
    companion = path.with_name(name) if name else path
    if companion == path or not companion.is_file():
        return None
    root = ElementTree.fromstring(companion.read_bytes())
    root.set("UUID", reference.get("UUID", ""))
    return root


def _images(root: Element, path: Path, pages: int, notes: list[Note]) -> Iterator[_Image]:
    found = []
    for image in root.iterfind("{*}Image"):
        for pixels in image.iterfind("{*}Pixels"):
            axes = pixels.attrib["DimensionOrder"][:1:-1]
            sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in axes}
            channel = pixels.find("{*}Channel")
            sizes["C"] //= max(1, int(channel.get("SamplesPerPixel", 1)) if channel is not None else 1)
            found.append((image, pixels, axes, tuple(sizes[axis] for axis in axes)))
    entries = [(number, data) for number, one in enumerate(found) for data in one[1].iterfind("{*}TiffData")]
    data, pixels = [data for _, data in entries], [found[number][1] for number, _ in entries]
    own = _own_entries(root, data, pixels, path, pages, notes)
    if not entries and len(found) == 1 and prod(found[0][3]) == pages:
        entries, own = [(0, Element("TiffData"))], [True]
        notes.append(
            Note(
                "guessed",
                pages,
                "the OME-XML does not say where the planes are stored: they are read in file order",
            )
        )
    for number, (image, pixels, axes, sizes) in enumerate(found):
        one = _Image(image, pixels, axes, sizes, {}, set())
        for (which, data), mine in zip(entries, own, strict=True):
            if which != number:
                continue
            for place, page in _places(data, axes, sizes, pages):
                if mine:
                    one.own[place] = page
                else:
                    one.elsewhere.add(place)
        one.elsewhere -= one.own.keys()
        yield one


def _places(data: Element, axes: str, sizes: tuple[int, ...], pages: int) -> Iterator[tuple[Place, int]]:
    """Yields the planes of a TiffData with their pages, from its first plane on, in the order of the dimensions."""
    page, places = int(data.get("IFD", 0)), prod(sizes)
    count = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else pages)))
    first = 0
    for axis, size in zip(axes, sizes, strict=True):
        first = first * size + int(data.get(f"First{axis}", 0))
    if min(first, page, places - 1) < 0 or min(count, places - first) > MOST:
        raise ValueError(f"it describes {count} planes starting at plane {first} of {places}")
    for number in range(first, min(first + count, places)):
        place: Place = ()
        rest = number
        for size in reversed(sizes):
            rest, at = divmod(rest, size)
            place = (at, *place)
        yield place, page + number - first


def _own_entries(
    root: Element, entries: list[Element], pixels: list[Element], path: Path, pages: int, notes: list[Note]
) -> list[bool]:
    """Says which TiffData refer to this file: by identifier, else by name, else the only possible one."""
    links = [data.find("{*}UUID") for data in entries]
    identifiers = [None if link is None else (link.text or "").strip() for link in links]
    names = [
        None if link is None else link.get("FileName", "").replace("\\", "/").rpartition("/")[2]
        for link in links
    ]
    by_name = [name is not None and name.lower() == path.name.lower() for name in names]
    by_identifier = [bool(one) and one == root.get("UUID") for one in identifiers]
    called = {name for name, mine in zip(names, by_identifier, strict=True) if mine}
    if any(by_identifier) and not (len(called) > 1 and any(by_name)):
        own = by_identifier
    elif any(by_name):
        own = by_name
    elif len(set(names) - {None}) == 1:
        own = [True] * len(entries)
        (name,) = set(names) - {None}
        notes.append(
            Note(
                "guessed",
                1,
                f"the OME-XML describes {printable(name)}: this file is assumed to be a copy of it",
            )
        )
    else:
        own = _alike(names, entries, pixels, pages)
        if any(own):
            others = len(set(names) - {None})
            text = f"the OME-XML names {others} files, but not this one: assumed to be one of them, renamed"
            notes.append(Note("guessed", 1, text))
    # A TiffData that names no file refers to the file that contains it.
    return [mine or link is None for mine, link in zip(own, links, strict=True)]


def _alike(names: list[str | None], entries: list[Element], pixels: list[Element], pages: int) -> list[bool]:
    """Selects the first described file with as many planes as this one, if all such files are described alike."""
    files: dict[str | None, list[int]] = {}
    for number, name in enumerate(names):
        files.setdefault(name, []).append(number)
    counts = {
        name: sum(int(entries[n].get("PlaneCount", 1)) for n in numbers) for name, numbers in files.items()
    }
    fitting = [numbers for name, numbers in files.items() if name is not None and counts[name] == pages]
    described = {_words(pixels[numbers[0]]) for numbers in fitting}
    return [len(described) == 1 and number in fitting[0] for number in range(len(names))]


def _words(pixels: Element) -> str:
    about = sorted((key, value) for key, value in pixels.attrib.items() if key != "ID")
    return str((about, [channel.get("Name") for channel in pixels.iterfind("{*}Channel")]))


def _size(pixels: Element) -> tuple[int, int]:
    return int(pixels.get("SizeY", 0)), int(pixels.get("SizeX", 0))


def _kept(one: _Image, path: Path, pages: int) -> tuple[list[list[int]], int]:
    """Returns the positions along each axis that are kept, and the number of missing planes.

    The planes of a file form a grid: that of the whole set, or some positions along one or two axes. If it is
    incomplete because the recording was stopped or the set continues in another file, the incomplete positions along
    one axis are dropped.
    """
    there = {place for place, page in one.own.items() if page < pages}
    if one.elsewhere:
        wanted = [sorted({place[at] for place in one.own}) for at in range(len(one.axes))]
        promised = prod(map(len, wanted))
    else:
        # Only as far as planes are stored: the described sizes may be arbitrarily large.
        wanted = [
            list(range(1 + max((place[at] for place in there), default=-1))) for at in range(len(one.axes))
        ]
        promised = prod(one.sizes)
    missing = set(product(*wanted)) - there
    if not missing:
        return wanted, promised - len(there)
    best = complete_part(wanted, there, one.elsewhere)
    if not best:
        first = min(missing, key=lambda place: place)
        where = "_".join(f"{axis.lower()}{at}" for axis, at in zip(one.axes, first, strict=True))
        found = (
            f"damaged: plane {where}, which the OME-XML describes, is missing, but later planes are stored"
        )
        raise UserError(path, found, "complete files", "copy or export the file again")
    return best, promised - len(there) - len(missing & one.elsewhere)


def _missing_note(one: _Image, kept: list[list[int]], missing: int, dropped: int) -> Note:
    what = ", ".join(f"{axis} = {len(at)}" for axis, at in zip(one.axes, kept, strict=True) if len(at) > 1)
    promised = prod(map(len, kept)) + dropped + missing
    texts = (
        [f"the file contains only {promised - missing} of the {promised} planes that the OME-XML describes"]
        if missing
        else []
    )
    elsewhere = " (its other planes are in other files)" if one.elsewhere else ""
    texts += [f"{counted(dropped, 'plane')} of an incomplete position{elsewhere} ignored"] if dropped else []
    return Note("left_aside", missing + dropped, f"{'; '.join(texts)}; the result has {what or 'one plane'}")


def _edited(root: Element, one: _Image, kept: list[list[int]]) -> str:
    """Returns the XML with one Image, reduced to the planes that are kept."""
    drop_other_images(root, one.image)
    root.attrib.pop("UUID", None)
    for axis, size, positions in zip(one.axes, one.sizes, kept, strict=True):
        if len(positions) != size:
            renumber(one.pixels, axis, positions, size)
    drop_children(one.pixels, "TiffData", "BinData", "MetadataOnly")
    at = len(one.pixels.findall("{*}Channel"))
    namespace = root.tag.removesuffix("OME")
    for place in product(*kept):
        new = {
            f"First{axis}": str(positions.index(at))
            for axis, positions, at in zip(one.axes, kept, place, strict=True)
        }
        page = {"IFD": str(one.own[place]), "PlaneCount": "1"}
        one.pixels.insert(at, Element(f"{namespace}TiffData", new | page))
        at += 1
    return ElementTree.tostring(root, encoding="unicode")
