"""Files: replaced only when the new one is complete, and read only if reading does no harm."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO

GZIP = b"\x1f\x8b"  # how such a file begins


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` at the end of the block.

    If the block fails, or the process is killed in it, the earlier file stays as it was. Whoever
    may read what this user writes with ``open`` may read this one (``umask``).

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    name = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    # not tempfile's: those are for their owner's eyes alone
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def replace_text(path: Path, text: str) -> Path:
    """Write a text file in one go: a failed write leaves the earlier file as it was."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
    return path


def replace_packed(path: Path, text: str) -> Path:
    """Write a text file as gzip, in one go; the same text gives the same bytes."""
    with replacing(path) as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.encode("utf-8"))
    return path


def free_name(path: Path, why: str) -> Path:
    """A name beside a file that nothing has yet: ``notes.old.md``, then ``notes.old1.md``."""
    names = (path.with_suffix(f".{why}{n or ''}{path.suffix}") for n in count())
    return next(name for name in names if not os.path.lexists(name))


def beginning(path: Path, size: int) -> bytes:
    """The first bytes of what a plain or gzip file holds. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            file.seek(0)
            return file.read(size)
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as packed:
            try:
                return packed.read(size)
            except (EOFError, zlib.error) as error:
                raise OSError(f"damaged gzip: {error}") from None


def check_plain(path: Path, max_bytes: int) -> None:
    """Raise ValueError for a file that would block its reader or fill the memory."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a plain file")
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"it has {size:,} bytes, at most {max_bytes:,} are read")


def check_format(data: object, name: str, versions: list[int]) -> None:
    """Raise ValueError for what was read but is of another format, or of a version not listed."""
    if not isinstance(data, dict) or data.get("format") != f"pipelab-{name}":
        raise ValueError(f"it is not a {name} of pipelab's")
    if data.get("version") not in versions:
        reads = ", ".join(map(str, versions))
        raise ValueError(
            f"it has version {data.get('version')!r}, this pipelab reads {reads}: update pipelab, "
            f"or write the {name} again"
        )
