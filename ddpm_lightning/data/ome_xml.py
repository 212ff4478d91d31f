"""The OME-XML of one file: what a TIFF holds of the images that its OME-XML describes.

An OME-XML may describe more than its file holds: the other files of a set, and planes of a recording that was stopped
before they were written. :func:`own_xml` edits it until it describes the planes of this file and no others, so that
whatever reads it (tifffile, and those who read our result) finds what is stated.

References:
    The OME-TIFF specification, https://docs.openmicroscopy.org/ome-model, on TiffData, UUID and BinaryOnly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from xml.etree import ElementTree

from tifffile import TiffFile

from ddpm_lightning.data.grids import Place, whole_part
from ddpm_lightning.data.notes import Note
from ddpm_lightning.data.ome_edit import drop_children, drop_other_images, renumber
from ddpm_lightning.errors import UserError, printable

__all__ = ["own_xml"]

Element = ElementTree.Element
MODULO = "openmicroscopy.org/omero/dimension/modulo"
#: Planes that a TiffData may describe: more than any file holds.
MOST = 10_000_000


@dataclass
class _Image:
    """An Image of the XML.

    Attributes:
        image: The element.
        pixels: Its Pixels.
        axes: Z, C and T, the slowest first.
        sizes: Length of each of them, in stored planes.
        own: Page of each plane that is in this file.
        elsewhere: Planes that are in other files.
    """

    image: Element
    pixels: Element
    axes: str
    sizes: tuple[int, ...]
    own: dict[Place, int]
    elsewhere: set[Place]


def own_xml(tif: TiffFile, path: Path, pages: int) -> tuple[str | None, list[Note]]:
    """Returns the OME-XML of the planes that are in a file.

    Args:
        tif: The open file, an OME-TIFF.
        path: Its name.
        pages: How many of its pages are sound, from the first.

    Returns:
        The edited XML, ``None`` where that of the file serves as it is, empty where it is of no use; and notes of what
        is guessed and missing.

    Raises:
        UserError: If a plane is missing between others.
    """
    if not pages:
        return "", []  # no plane is whole, whatever is described
    try:
        root = ElementTree.fromstring(tif.ome_metadata)
        companion, notes = root.find("{*}BinaryOnly"), []
        if companion is not None and (root := _companion(companion, path)) is None:
            raise ValueError(f"it is in the file {companion.get('MetadataFile', '')!r}, which is not there")
        images = list(_images(root, path, len(tif.pages), notes))
        sound = [one for one in images if any(page < pages for page in one.own.values())]
        fitting = [one for one in sound if _size(one.pixels) == tif.pages.first.shaped[2:4]]
        if not fitting:
            named = any(one.own for one in images)
            raise ValueError("it describes no image of this size" if named else "it is about other files")
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        text = f"the OME-XML is of no use ({printable(str(error))}): axes, channel names and pixel size are unknown"
        return "", [Note("guessed", 1, text)]
    chosen, others = fitting[0], fitting[1:]
    kept, missing = _kept(chosen, path, pages)
    whole = tuple(map(len, kept)) == chosen.sizes
    named = {(link.text or "").strip() for link in root.iterfind(".//{*}TiffData/{*}UUID")}
    if whole and companion is None and named <= {root.get("UUID")}:
        return None, notes
    if not whole and root.find(f".//*[@Namespace='{MODULO}']") is not None:
        raise UserError(path, f"truncated: {missing} planes are missing", "complete files", "copy it again")
    if others:
        count = sum(len(one.own) for one in others)
        text = f"only the first of {len(fitting)} images is used: {count} planes of the others are left aside"
        notes.append(Note("left_aside", count, text))
    dropped = sum(page < pages for page in chosen.own.values()) - prod(map(len, kept))
    if missing or dropped:
        notes.append(_missing_note(chosen, kept, missing, dropped))
    return _edited(root, chosen, kept), notes


def _companion(reference: Element, path: Path) -> Element | None:
    """The XML that a file of a set refers to, with the identifier of the file; ``None`` where it is not there."""
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
                "the OME-XML does not say where the planes are: they are taken in file order",
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
    """The planes of a TiffData with their pages: from a first plane on, in the order of the dimensions."""
    page, places = int(data.get("IFD", 0)), prod(sizes)
    count = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else pages)))
    first = 0
    for axis, size in zip(axes, sizes, strict=True):
        first = first * size + int(data.get(f"First{axis}", 0))
    if min(first, page, places - 1) < 0 or min(count, places - first) > MOST:
        raise ValueError(f"{count} planes from plane {first} of {places} on")
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
    """Which TiffData are about this file: by its identifier, else by its name, else the only one that can be meant."""
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
            Note("guessed", 1, f"the OME-XML is of {printable(name)}, of which this is taken for a copy")
        )
    else:
        own = _alike(names, entries, pixels, pages)
        if any(own):
            text = f"the OME-XML names {len(set(names) - {None})} files, and not this one: it is taken for one of them"
            notes.append(Note("guessed", 1, text))
    # A TiffData that names no file is about the file that it is in.
    return [mine or link is None for mine, link in zip(own, links, strict=True)]


def _alike(names: list[str | None], entries: list[Element], pixels: list[Element], pages: int) -> list[bool]:
    """The TiffData of the first file that holds as many planes as this, where all such files are described alike."""
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
    """Positions along each axis that are kept, and how many planes are missing.

    The planes of a file form a grid: all of a set's, or some positions along one or two axes. Where it is incomplete,
    because the recording stopped or the set goes on in another file, the incomplete positions of one axis are dropped.
    """
    there = {place for place, page in one.own.items() if page < pages}
    if one.elsewhere:
        wanted = [sorted({place[at] for place in one.own}) for at in range(len(one.axes))]
        promised = prod(map(len, wanted))
    else:
        # As far as there are planes: what is promised beyond may be any number.
        wanted = [
            list(range(1 + max((place[at] for place in there), default=-1))) for at in range(len(one.axes))
        ]
        promised = prod(one.sizes)
    missing = set(product(*wanted)) - there
    if not missing:
        return wanted, promised - len(there)
    best = whole_part(wanted, there, one.elsewhere)
    if not best:
        first = min(missing, key=lambda place: place)
        where = "_".join(f"{axis.lower()}{at}" for axis, at in zip(one.axes, first, strict=True))
        found = f"damaged: plane {where} of the OME-XML is missing, while later ones are there"
        raise UserError(path, found, "complete files", "copy or export the file again")
    return best, promised - len(there) - len(missing & one.elsewhere)


def _missing_note(one: _Image, kept: list[list[int]], missing: int, dropped: int) -> Note:
    what = ", ".join(f"{axis} = {len(at)}" for axis, at in zip(one.axes, kept, strict=True) if len(at) > 1)
    promised = prod(map(len, kept)) + dropped + missing
    texts = (
        [f"{missing} of {promised} planes that the OME-XML describes are missing, the last ones"]
        if missing
        else []
    )
    elsewhere = ", whose other planes are in other files" if one.elsewhere else ""
    texts += [f"{dropped} planes that complete no position{elsewhere} are left aside"] if dropped else []
    return Note("left_aside", missing + dropped, f"{'; '.join(texts)}: restored are {what or 'one plane'}")


def _edited(root: Element, one: _Image, kept: list[list[int]]) -> str:
    """The XML with one Image, of the planes that are kept alone."""
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
