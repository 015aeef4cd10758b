"""Chunks and messages of bags that are compressed, unpacked to no more than they may be: few bytes can ask for much."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 28  # of a chunk or a message, unpacked: 256 MiB; a 4K image has 25 MB


class Oversized(ValueError):
    """What would be unpacked is larger than it may be; says so in a sentence."""


def unpack_zstd(data: bytes, size: int) -> bytes:
    """Frames of zstd, unpacked.

    Args:
        data: frames, one after the other.
        size: bytes that they may have at the most.

    Raises:
        Oversized: there are more.
        EOFError: the last frame is cut off. Whatever else broken bytes make of the unpacking.
    """
    from rosbags.rosbag2.storage_mcap import zstd  # the standard library's, or what stands in for it

    return _unpacked(zstd.ZstdDecompressor, data, size)


def unpack_lz4(data: bytes, size: int) -> bytes:
    """As unpack_zstd, of lz4."""
    from lz4.frame import LZ4FrameDecompressor

    return _unpacked(LZ4FrameDecompressor, data, size)


def unpack_message(data: bytes) -> bytes:
    """As unpack_zstd, of a message, whose size nothing states."""
    return unpack_zstd(data, MOST_BYTES)


UNPACK: dict[str, Callable[[bytes, int], bytes]] = {"": lambda data, _: data, "lz4": unpack_lz4, "zstd": unpack_zstd}


def unpack_file(source: Path, target: Path) -> None:
    """As unpack_zstd, of a file to another one, which may take half of the disk that is free.

    Raises OSError, too.
    """
    from rosbags.rosbag2.storage_mcap import zstd

    left = shutil.disk_usage(target.parent).free // 2
    with zstd.open(source, "rb") as packed, target.open("wb") as file:
        while part := packed.read(1 << 20):
            left -= len(part)
            if left < 0:
                raise Oversized(f"{source.name} does not fit into half of what is free on the disk of {target.parent}")
            file.write(part)


def limit_reader() -> None:
    """Have the reader of rosbags unpack chunks of an mcap with these: its own functions know no limit."""
    from rosbags.rosbag2 import storage_mcap

    storage_mcap.DECOMPRESSORS.update(UNPACK)


def _unpacked(make: Callable[[], Any], data: bytes, size: int) -> bytes:
    if size > MOST_BYTES:
        raise Oversized(f"expected chunks of at most {MOST_BYTES} bytes, got one that claims {size}")
    parts, left = [], size
    while data:
        frame = make()
        parts.append(frame.decompress(data, max_length=left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise Oversized(f"expected at most {size} bytes in a chunk or a message when it is unpacked, got more")
        if not frame.eof:
            raise EOFError("what is compressed is cut off")
        data = frame.unused_data or b""
    return b"".join(parts)
