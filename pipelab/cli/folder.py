"""The folder that a command writes into: proven before the work, and nothing outside of it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelab.cli.console import CommandError
from pipelab.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipelab.trace import Trace

PIXELS_PER_INCH = 160


def writable(name: str) -> Path:
    """The folder, made if it is not there, once a file in it could really be written."""
    remedy = "choose another with --output FOLDER"
    if not name:
        raise CommandError(f"the name of the output folder is empty: {remedy}")
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"?")
    except FileExistsError:
        raise CommandError(f"{name} is a file, not a folder: {remedy}, or move it away") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CommandError(f"cannot write into the folder {name} ({reason}): {remedy}") from None
    return folder


def save(folder: Path, suffix: str, trace: "Trace", figure: "Figure") -> list[Path]:
    """Write trace, Perfetto file and picture. Earlier ones are replaced, links not followed."""
    try:
        return [
            _save_picture(folder / f"timeline{suffix}.png", figure),
            trace.save(folder / f"trace{suffix}.json"),
            trace.to_chrome(folder / f"trace{suffix}.perfetto.json"),
        ]
    except OSError as error:
        raise CommandError(
            f"cannot write {error.filename or folder} ({error.strerror or error}): make room, or "
            f"choose another folder with --output FOLDER"
        ) from None


def _save_picture(path: Path, figure: "Figure") -> Path:
    """A PNG that replaces the earlier one only when it is whole."""
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=PIXELS_PER_INCH)
    return path
