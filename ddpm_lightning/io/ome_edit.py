"""Edits an OME-XML: removes images, and removes or reorders positions along an axis."""

from xml.etree.ElementTree import Element

__all__ = ["drop_children", "drop_other_images", "renumber"]


def renumber(pixels: Element, axis: str, positions: list[int], size: int) -> None:
    """Keeps some positions of an axis: edits its size, its planes, and for ``C`` its channels.

    Args:
        pixels: The Pixels element.
        axis: ``Z``, ``C`` or ``T``.
        positions: Positions to keep, in the new order.
        size: Previous length of the axis.
    """
    elements = pixels.findall("{*}Channel")
    if axis == "C" and len(elements) == size:
        first = list(pixels).index(elements[0])
        for element in elements:
            pixels.remove(element)
        for offset, channel in enumerate(positions):
            pixels.insert(first + offset, elements[channel])
    new = {old: number for number, old in enumerate(positions)}
    for plane in pixels.findall("{*}Plane"):
        old = int(plane.get(f"The{axis}", 0))
        if old in new:
            plane.set(f"The{axis}", str(new[old]))
        else:
            pixels.remove(plane)
    # SizeC counts the samples of all channels.
    pixels.set(f"Size{axis}", str(int(pixels.get(f"Size{axis}", size)) // size * len(positions)))


def drop_children(parent: Element, *names: str) -> None:
    """Removes the children of these names."""
    for name in names:
        for child in parent.findall(f"{{*}}{name}"):
            parent.remove(child)


def drop_other_images(root: Element, image: Element) -> None:
    """Removes all Images except one, and the references to them."""
    others = [other for other in root.findall("{*}Image") if other is not image]
    gone = {other.get("ID") for other in others}
    for other in others:
        root.remove(other)
    for parent in list(root.iter()):
        for reference in parent.findall("{*}ImageRef"):
            if reference.get("ID") in gone:
                parent.remove(reference)
