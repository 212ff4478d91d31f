"""Reads what an offline run of W&B wrote, by W&B's own record definitions.

A file is a header of 7 bytes and blocks of 32768 bytes, which hold pieces of records: checksum, length and type (1:
whole, 2: first, 3: middle, 4: last) in 7 bytes, then the content; what is left of a block below 7 bytes is padding.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """Yields the records of a file ``run-ID.wandb``."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), HEADER, b""
    assert content[:4] == b":W&B"
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        place += HEADER
        parts += content[place : place + length]
        place += length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def value(items: Any) -> dict[str, Any]:
    """Returns items as a nested dictionary with dotted keys."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(path: Path) -> list[dict[str, Any]]:
    """Returns the logged rows."""
    found = [r.history for r in records(path) if r.WhichOneof("record_type") == "history"]
    return [value(row.item) for row in found]


def config(path: Path) -> dict[str, Any]:
    """Returns the configuration of the run."""
    merged = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        update = (
            record.run.config.update if kind == "run" else record.config.update if kind == "config" else ()
        )
        merged |= value(update)
    return merged


def run(path: Path) -> Any:
    """Returns the record of the run itself."""
    return next(r.run for r in records(path) if r.WhichOneof("record_type") == "run")
