"""EXIF as bytes: directories of tags, as TIFF lays them out.

Values stay the bytes that they are. Libraries that decode and encode them change some: text that
is not ASCII, makers' notes, tags of another type than the standard gives them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np

PREFIX = b"Exif\0\0"  # stands before the block in a JPEG marker
ORIENTATION = 0x0112
EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_NESTED = (EXIF_DIRECTORY, _GPS_DIRECTORY, _INTEROPERABILITY)
_DEPTH = 3  # the main directory, EXIF's, and interoperability's in that
# Width and height that are told, of the main directory and of EXIF's.
_MAIN_SIZES, _EXIF_SIZES = (256, 257), (0xA002, 0xA003)

BYTE, SHORT, RATIONAL = 1, 3, 5
# By TIFF's types, the bytes of a value, and those of the numbers in it, whose order is the file's.
_VALUE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_NUMBER = _VALUE | {5: 4, 10: 4}
_POINTERS = (4, 13, 16, 18)  # the last two are of BigTIFF alone


@dataclass(frozen=True)
class Entry:
    """A tag's value: its TIFF type, how many, and their bytes, little-endian."""

    type: int
    count: int
    data: bytes


# By tag; directories in place of their pointers.
Directory: TypeAlias = "dict[int, Entry | Directory]"


@dataclass(frozen=True)
class _Row:
    tag: int
    type: int
    count: int
    pointer: int  # what the row holds in place of a value that does not fit into it
    at: int  # where the row is
    value_at: int


@dataclass(frozen=True)
class _Layout:
    """How numbers are laid out, as `struct` calls it: in TIFF, or in BigTIFF."""

    order: str
    count: str = "H"
    row: str = "HHII"
    room: int = 4  # of a row for its value


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    """So many bytes from a place, or fewer at the end; none from beyond, where not all can seek."""
    if at > file.seek(0, io.SEEK_END):
        return b""
    file.seek(at)
    return file.read(size)


def _begin(file: BinaryIO) -> tuple[_Layout, int]:
    """The layout of a file, and where its main directory is. Raises ValueError for another kind."""
    head = _read(file, 0, 16)
    for mark, order in ((b"II", "<"), (b"MM", ">")):
        if head.startswith(mark + struct.pack(order + "H", 42)) and len(head) >= 8:
            return _Layout(order), struct.unpack_from(order + "I", head, 4)[0]
        if head.startswith(mark + struct.pack(order + "HHH", 43, 8, 0)) and len(head) >= 16:
            return _Layout(order, "Q", "HHQQ", 8), struct.unpack_from(order + "Q", head, 8)[0]
    raise ValueError("no TIFF header")


def _rows(file: BinaryIO, layout: _Layout, at: int) -> Iterator[_Row]:
    """The rows of the directory at a place; of a damaged one those that are there."""
    count = layout.order + layout.count
    head = _read(file, at, struct.calcsize(count))
    if len(head) < struct.calcsize(count):
        return
    row = layout.order + layout.row
    size = struct.calcsize(row)
    at += len(head)
    content = _read(file, at, size * min(struct.unpack(count, head)[0], 65_535))
    for start in range(0, len(content) - size + 1, size):
        tag, type_, number, pointer = struct.unpack_from(row, content, start)
        fits = _VALUE.get(type_, 1) * number <= layout.room
        value_at = at + start + size - layout.room if fits else pointer
        yield _Row(tag, type_, number, pointer, at + start, value_at)


def _reordered(data: bytes, number: int, order: str, wanted: str) -> bytes:
    """Numbers of so many bytes in another order of bytes."""
    return np.frombuffer(data, f"{order}u{number}").astype(f"{wanted}u{number}").tobytes()


def read_directory(file: BinaryIO, without: frozenset[int] = frozenset()) -> Directory:
    """The tags of an EXIF block or of a TIFF file, except for some of the main directory.

    What is damaged is left out. Raises ValueError for what is neither a block nor such a file.
    """
    layout, start = _begin(file)
    left = file.seek(0, io.SEEK_END)  # many tags of a hostile file may share one large value

    def directory(at: int, depth: int) -> Directory:
        nonlocal left
        found: Directory = {}
        seen = set(without) if depth == _DEPTH else set()
        for row in _rows(file, layout, at):
            if row.tag in seen:
                continue
            seen.add(row.tag)
            if row.tag in _NESTED:
                if row.type in _POINTERS and row.count == 1 and depth > 1:
                    found[row.tag] = directory(row.pointer, depth - 1)
            elif row.type in _VALUE and (size := _VALUE[row.type] * row.count) <= left:
                data, number = _read(file, row.value_at, size), _NUMBER[row.type]
                if len(data) == size:
                    left -= size
                    data = _reordered(data, number, layout.order, "<")
                    found[row.tag] = Entry(row.type, row.count, data)
        return {tag: value for tag, value in found.items() if value}

    return directory(start, _DEPTH)


def directory_bytes(directory: Directory, at: int, order: str) -> bytes:
    """A directory as the bytes that stand at an even place of a TIFF file; "<" or ">" first.

    Its rows, then what does not fit into them, then the directories in it.
    """
    rows, values = [], bytearray()
    values_at = at + 2 + 12 * len(directory) + 4
    for tag, value in sorted(directory.items()):
        if isinstance(value, dict):
            place = values_at + len(values)
            values += directory_bytes(value, place, order)
            rows.append(struct.pack(order + "HHII", tag, 4, 1, place))
            continue
        data = _reordered(value.data, _NUMBER[value.type], "<", order)
        inside = data.ljust(4, b"\0")
        if len(data) > 4:
            inside = struct.pack(order + "I", values_at + len(values))
            values += data + bytes(len(data) % 2)
        rows.append(struct.pack(order + "HHI4s", tag, value.type, value.count, inside))
    return struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4) + bytes(values)


def block_of(directory: Directory) -> bytes:
    """An EXIF block that holds the tags."""
    return PREFIX + struct.pack("<2sHI", b"II", 42, 8) + directory_bytes(directory, 8, "<")


def settled(block: bytes, turned: bool) -> bytes:
    """The block of a photo whose pixels stand upright now, and which no thumbnail shows any more.

    turned: whether width and height have changed places. Every other byte stays where it is:
    makers' notes point at places in the block. Raises ValueError for what is no block, or empty.
    """
    while block.startswith(PREFIX):  # some programs write it twice
        block = block.removeprefix(PREFIX)
    file, data = io.BytesIO(block), bytearray(block)
    layout, start = _begin(file)
    rows = list(_rows(file, layout, start))
    if not rows or layout.room != 4:
        raise ValueError("no EXIF")
    for row in rows:
        if row.tag == ORIENTATION:
            data[row.at + 2 : row.at + 12] = struct.pack(layout.order + "HIHH", SHORT, 1, 1, 0)
    # Here the next directory is named, the thumbnail's; some programs leave that out.
    next_at = rows[-1].at + 12
    used = {place for row in rows for place in (row.value_at, row.pointer)}
    if next_at + 4 <= len(data) and used.isdisjoint(range(next_at, next_at + 4)):
        data[next_at : next_at + 4] = bytes(4)
    if turned:
        main, details = {row.tag: row for row in rows}, {}
        if EXIF_DIRECTORY in main:
            at = main[EXIF_DIRECTORY].pointer
            details = {row.tag: row for row in _rows(file, layout, at)}
        for known, tags in ((main, _MAIN_SIZES), (details, _EXIF_SIZES)):
            if all(tag in known for tag in tags):
                x, y = (slice(known[tag].at + 2, known[tag].at + 12) for tag in tags)
                data[x], data[y] = data[y], data[x]
    return PREFIX + bytes(data)


def without_orientation(block: bytes) -> bytes:
    """The block without this tag, whose row gives way to those behind it."""
    content = block.removeprefix(PREFIX)
    file, data = io.BytesIO(content), bytearray(content)
    layout, start = _begin(file)
    rows = list(_rows(file, layout, start))
    for row in rows:
        if row.tag == ORIENTATION:
            end = rows[-1].at + 12 + 4
            data[row.at : end] = data[row.at + 12 : end] + bytes(12)
            struct.pack_into(layout.order + "H", data, start, len(rows) - 1)
            break
    return PREFIX + bytes(data)
