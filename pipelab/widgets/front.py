"""The front end: several short files, read as one ES module without imports.

    parts scale data layout lanes draw panel input timeline view     the timeline
    single | controls chart lab | controls editor                    what each widget makes of it

Nothing is built, and nothing is fetched: the browser gets the files as they stand, without their
comments and indentation, which would be half of what a notebook stores. That leaves 54 to 64 kB,
which Chromium imports in 5 to 10 ms; shorter names would help, and nobody could read them then.
"""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("front")
PARTS = ("parts", "scale", "data", "layout", "lanes", "draw", "panel", "input", "timeline", "view")
_COMMENT = re.compile(r"^(//.*|/\*\*?.*\*/|/\*\*?|\*.*)$")


@cache
def script(*names: str) -> str:
    """The module of these files, in this order; each may use what stands before it."""
    texts = [FOLDER.joinpath(f"{name}.js").read_text("utf-8") for name in names]
    lines = (line.strip() for text in texts for line in text.splitlines())
    return "\n".join(line for line in lines if line and not _COMMENT.fullmatch(line))


@cache
def style(*names: str) -> str:
    """The style sheets as one."""
    texts = [FOLDER.joinpath(f"{name}.css").read_text("utf-8") for name in names]
    lines = (line.strip() for text in texts for line in text.splitlines())
    return "\n".join(line for line in lines if line and not _COMMENT.fullmatch(line))
