"""Files that clients send, good ones and hostile ones."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def image(size: tuple[int, int] = (8, 8), *, kind: str = "PNG", shade: int = 100) -> bytes:
    """A grey picture."""
    out = io.BytesIO()
    Image.new("L", size, shade).save(out, kind)
    return out.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header says that it is of this size."""
    small = image()
    start = small.index(b"IHDR")
    header = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + small[start + 12 : start + 17]
    return small[:start] + header + zlib.crc32(header).to_bytes(4) + small[start + 21 :]


def packed(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of these members, under exactly these names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.compress_type = name, method
            archive.writestr(info, content)
    return out.getvalue()


def flowers(n: int = 3) -> dict[str, bytes]:
    """A small data set: two classes of n different images each."""
    return {
        f"{name}/{i}.png": image(shade=10 * i + place) for place, name in enumerate(("rose", "tulip")) for i in range(n)
    }


def with_link() -> bytes:
    """An archive with a symbolic link that leads outside."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in flowers().items():
            archive.writestr(name, content)
        link = zipfile.ZipInfo("rose/link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../../../../etc/passwd")
    return out.getvalue()


def bomb(mib: int = 8) -> bytes:
    """An archive with an image that unpacks to a thousand times its size."""
    return packed({**flowers(), "rose/bomb.png": image() + bytes(mib * 2**20)})


def lying() -> bytes:
    """A bomb whose directory says that it is small."""
    content = image() + bytes(4 * 2**20)
    whole = packed({"rose/a.png": content})
    size, claimed = len(content).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert whole.count(size) == 2
    return whole.replace(size, claimed)


def encrypted() -> bytes:
    """An archive whose members say that they are encrypted."""
    whole = bytearray(packed({"rose/a.png": image()}))
    local, central = whole.index(b"PK\x03\x04"), whole.index(b"PK\x01\x02")
    whole[local + 6] |= 1
    whole[central + 8] |= 1
    return bytes(whole)


class _Runs:
    """Something that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


def pickled(mark: Path) -> bytes:
    """A pickle that makes a folder at ``mark`` where anybody unpickles it."""
    return pickle.dumps(_Runs(mark))


def torch_file(mark: Path) -> bytes:
    """Weights as `torch.save` writes them, with such a pickle inside."""
    return packed({"archive/data.pkl": pickled(mark), "archive/version": b"3\n"}, method=zipfile.ZIP_STORED)


SENTINEL = (Path(__file__).parents[3] / "hardware_profiles" / "data" / "sentinel.onnx").read_bytes()
"""A true ONNX model."""


def begun_capture() -> bytes:
    """A file that begins as captured models do, which is all that a server reads of it."""
    return packed({"program.json": b"{}"}, method=zipfile.ZIP_STORED)
