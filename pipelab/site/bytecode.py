"""Archives of Python sources as archives of bytecode, which a browser's Python starts from sooner.

This runs inside Pyodide, whose Python the bytecode is for: ``precompile.mjs`` calls it there. To
compile what the playground imports takes more than half of its start.
"""

import importlib.util
import marshal
import zipfile
from collections.abc import Container

ASSERTS_AND_DOCSTRINGS_STAY = 0


def write_compiled(source: str, target: str, wanted: Container[str] | None = None) -> int:
    """Copy a zip file with each module compiled; returns how many were.

    Args:
        source: the zip file.
        target: the zip file to write.
        wanted: names of modules to compile, the others stay sources; None: all.
    """
    count = 0
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data, name = old.read(info), info.filename
            if name.endswith(".py") and (wanted is None or _module(name) in wanted):
                data, name = compiled(data, name), f"{name}c"
                count += 1
            new.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return count


def compiled(source: bytes, name: str) -> bytes:
    """What Python would keep in a ``.pyc`` file that is never compared with its source."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=ASSERTS_AND_DOCSTRINGS_STAY)
    never_checked = (0b01).to_bytes(4, "little") + bytes(8)
    return importlib.util.MAGIC_NUMBER + never_checked + marshal.dumps(code)


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
