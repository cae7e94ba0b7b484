"""What is a file that can be read without harm."""

from pathlib import Path


def check_plain(path: Path, most: int) -> None:
    """Raise ValueError for a file that would hang its reader, or eat the memory."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no plain file")
    if (size := path.stat().st_size) > most:
        raise ValueError(f"it has {size:,} bytes, at most {most:,} are read")
