"""Compressed files, as Neptune's bulk loader takes them.

https://docs.aws.amazon.com/neptune/latest/userguide/bulk-load-tutorial-format.html: a single file in gzip or bzip2
format, whose name must have the extension .gz or .bz2.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol, cast

from cohort_flywheel.graph_load.findings import FindingKind

#: What a processor's cache holds with all that is made of it: larger parts take longer.
CHUNK = 1 << 17
#: The first bytes of a compressed file.
MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh"}


class ByteStream(Protocol):
    """What a file's bytes are read from: an open file, or the body of an object in S3."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""

    def close(self) -> None:
        """Close it."""


class UnreadableError(Exception):
    """A file cannot be read beyond a line; `line` is None for the file as a whole."""

    def __init__(self, kind: FindingKind, line: int | None, text: str) -> None:
        super().__init__(text)
        self.kind, self.line, self.text = kind, line, text


def decompressed(stream: ByteStream, name: str) -> Iterator[bytes]:
    """Yield the bytes of a file in parts of at most 128 KiB; raise UnreadableError if its name and content differ."""
    compression = _compression(name)
    if compression is None:
        first = stream.read(CHUNK)
        for suffix, magic in MAGIC.items():
            if first.startswith(magic):
                text = f"the file is compressed: give its name the extension {suffix}"
                raise UnreadableError(FindingKind.COMPRESSION, None, text)
        while first:
            yield first
            first = stream.read(CHUNK)
        return
    # both only read it, from the start to the end
    file = cast("BinaryIO", stream)
    opened = gzip.GzipFile(fileobj=file) if compression == ".gz" else bz2.BZ2File(file)
    while True:
        try:
            chunk = opened.read(CHUNK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _broken(compression) from error
        except OSError as error:
            # bz2 has no exception of its own: its errors have no number, unlike those of the network
            if type(error) is OSError and error.errno is None:
                raise _broken(compression) from error
            raise
        if not chunk:
            return
        yield chunk


def compressed(parts: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield these bytes as the file's name says; the same bytes give the same file."""
    compression = _compression(name)
    if compression is None:
        yield from parts
        return
    # zlib writes a gzip header without a time
    compressor = zlib.compressobj(wbits=31) if compression == ".gz" else bz2.BZ2Compressor()
    for part in parts:
        if data := compressor.compress(part):
            yield data
    yield compressor.flush()


def _compression(name: str) -> str | None:
    return next((suffix for suffix in MAGIC if name.endswith(suffix)), None)


def _broken(compression: str) -> UnreadableError:
    text = f"the file is not a complete {compression} file: compress and upload it again"
    return UnreadableError(FindingKind.COMPRESSION, None, text)
