"""What a notebook stores of a timeline, so that a page made of it later can play it.

    still picture, words, table     what viewers show that do not know ours
    MIME                            the front end's values, packed: some 10 kB for 400 events

Neither JupyterLab nor nbconvert shows the second; ``pipelab site`` plays it.
"""

import base64
import json
import zlib
from collections.abc import Mapping

from pipelab.errors import TraceError
from pipelab.widgets.page import portable

MIME = "application/vnd.pipelab.timeline+json"
NAMES = ("data", "head", "ghost_data", "ghost_head", "show")
_LARGEST = 64_000_000  # bytes of JSON, from a notebook that somebody else may have written


def stored(state: Mapping[str, object], story: str = "") -> dict[str, dict[str, str]]:
    """An entry for an output of a notebook.

    Args:
        state: the front end's values, as from ``timeline_state``.
        story: in whose words, a name in story.py.
    """
    text = portable({name: state[name] for name in NAMES})
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")
    return {MIME: {"story": story, "state": packed}}


def unpacked(entry: Mapping[str, str]) -> tuple[str, str]:
    """The story, and the front end's values as JSON. Raises TraceError if the entry is damaged."""
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(base64.b64decode(entry["state"], validate=True), _LARGEST)
        if not inflater.eof or set(json.loads(text)) != set(NAMES):
            raise ValueError("it is not whole")
        return str(entry["story"]), text.decode()
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise TraceError(f"a stored timeline is damaged ({error}): run its cell again") from None
