"""A figure as a PNG that fits light and dark pages: no ground, and grey where there was black.

What is inside a box, or inside a circle, stays as it is: it has a ground there.
"""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.spines import Spine
from matplotlib.text import Annotation, Text
from PIL import Image

from pipelab.plots.palette import BLACK, PURPLE, QUIET, VERMILLION, idle_shade

MIDDLE = "#797979"  # more than 4.2:1 both on white and on the dark theme's #111111
INSIDE = "inside"  # the gid of texts that have a box behind them
_INKS = (BLACK, QUIET)
# Idle time on any ground: for each shade, a colour and its opacity.
_CLEAR = {
    idle_shade("waiting"): (MIDDLE, 0.4),
    idle_shade("message"): (PURPLE, 0.45),
    idle_shade("imbalance"): (VERMILLION, 0.4),
    idle_shade("done"): (MIDDLE, 0.2),
    idle_shade("overhead"): (MIDDLE, 0.65),
}


def png_of(figure: Figure, dpi: float = 144) -> bytes:
    """The figure as a PNG without ground; a palette of 128 colours makes it a third of the size."""
    raw, small = io.BytesIO(), io.BytesIO()
    with _on_any_ground(figure):
        figure.savefig(raw, format="rgba", dpi=dpi, transparent=True)
    width, height = (int(inches * dpi) for inches in figure.get_size_inches())
    full = Image.frombytes("RGBA", (width, height), raw.getvalue())
    full.quantize(128, Image.Quantize.FASTOCTREE).save(small, "png")
    return small.getvalue()


@contextmanager
def _on_any_ground(figure: Figure) -> Iterator[None]:
    """Other colours while it lasts: the figure itself may be saved on white afterwards."""
    with ExitStack() as later:
        for ax in figure.axes:
            ax.tick_params(colors=MIDDLE)
            later.callback(ax.tick_params, colors=BLACK)
        artists = figure.findobj(lambda artist: isinstance(artist, Artist))
        arrows = [a.arrow_patch for a in artists if isinstance(a, Annotation) and a.arrow_patch]
        for artist in [*artists, *arrows]:  # findobj does not look for the arrows
            for name, new in _changes(artist).items():
                later.callback(artist.set, **{name: getattr(artist, f"get_{name}")()})
                artist.set(**{name: new})
        yield


def _changes(artist: Artist) -> dict[str, object]:
    """What of an artist is drawn in another way on any ground."""
    if str(artist.get_label()).startswith("idle: ") and isinstance(artist, Patch | PolyCollection):
        look = _CLEAR.get(_hex(artist.get_facecolor()))
        return {"facecolor": look, "edgecolor": "none"} if look else {}
    match artist:
        case Text() if artist.get_gid() != INSIDE and artist.get_bbox_patch() is None:
            return {"color": MIDDLE} if _hex(artist.get_color()) in _INKS else {}
        case Line2D() if _hex(artist.get_color()) in _INKS:
            return {"color": MIDDLE, "path_effects": []}
        case Spine() | LineCollection() | FancyArrowPatch():
            edge = artist.get_edgecolor()
            return {"edgecolor": MIDDLE} if len(edge) and _hex(edge) in _INKS else {}
    return {}


def _hex(colour: object) -> str:
    """The first of some colours, as ``#RRGGBB``."""
    if isinstance(colour, str):
        return to_hex(colour).upper()
    return to_hex(np.atleast_2d(np.asarray(colour))[0]).upper()
