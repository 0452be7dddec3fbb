"""ICC profiles of colours that files name by numbers, for formats that have no place for these."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_D65, _D50 = (0.3127, 0.3290), np.array([0.9642, 1.0, 0.8249])
# By their numbers in ITU-T H.273. Primaries: x and y of red, green and blue, all of white D65.
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709, sRGB
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),  # BT.601 of PAL
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # BT.601 of NTSC
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
# Transfers: parameters of ICC's parametric curves, of type 0 (gamma alone) or 3.
_BT709 = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_TRANSFERS: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), _BT709),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),  # sRGB
}
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def named_profile(cicp: tuple[int, int]) -> bytes | None:
    """A profile (ICC.1:2010) of RGB of these primaries and transfer characteristics.

    None for those that are not known here.
    """
    primaries, transfer = _PRIMARIES.get(cicp[0]), _TRANSFERS.get(cicp[1])
    if primaries is None or transfer is None:
        return None
    to_d50 = _adaptation()
    colours = np.stack([_xyz(each) for each in primaries], 1)
    colours = to_d50 @ (colours * np.linalg.solve(colours, _xyz(_D65)))
    kind = 0 if len(transfer) == 1 else 3
    curve = b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(*transfer)
    tags = {
        b"desc": _text(f"H.273 {cicp[0]}/{cicp[1]}"),
        b"cprt": _text("CC0"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(*to_d50.ravel()),
        **{
            name: b"XYZ \0\0\0\0" + _fixed(*colours[:, index])
            for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s12s4s", at + len(body), b"", 0x4200000, b"mntr", b"RGB ",
                         b"XYZ ", struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    header = header.ljust(68, b"\0") + _fixed(*_D50)
    return header.ljust(128, b"\0") + table + body


def _xyz(place: tuple[float, float]) -> Matrix:
    x, y = place
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation() -> Matrix:
    """From D65 to D50, the white of all profiles (Bradford)."""
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ _xyz(_D65))
    adapted: Matrix = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD
    return adapted


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(encoded), 28) + encoded
