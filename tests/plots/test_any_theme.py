"""A figure in a notebook has no ground, and what is black on white is grey there; for a while."""

import io
from itertools import pairwise

import pytest
from PIL import Image

from pipelab.plots import plot_bubble, plot_memory, plot_timeline
from pipelab.plots.any_theme import _CLEAR, MIDDLE
from pipelab.plots.palette import WHITE, contrast, idle_shade, mix
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate

TRACE = simulate(one_f_one_b(2, 3), Cost(0.01, 0.01, 0.01, latency=0.002))
FIGURES = {
    "timeline": lambda: plot_timeline(TRACE, line=(0.1, "your prediction")),
    "memory": lambda: plot_memory(TRACE, budget=1),
    "bubble": lambda: plot_bubble({(4, 1): 0.75, (4, 8): 0.3}, predicted={(4, 8): 0.27}),
}


def pixels(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGBA")


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_black_stands_on_the_page_itself(name):
    figure = FIGURES[name]()
    before, shown, after = io.BytesIO(), figure._repr_png_(), io.BytesIO()
    picture = pixels(shown)
    assert picture.getpixel((0, 0))[3] == 0, "no ground"
    edge = picture.crop((0, 0, picture.width // 12, picture.height))  # names, or the axis' words
    inks = {colour[:3] for _, colour in edge.getcolors(1 << 20) if colour[3] > 250}
    grey = tuple(int(MIDDLE[i : i + 2], 16) for i in (1, 3, 5))
    assert min(sum(abs(a - b) for a, b in zip(ink, grey, strict=True)) for ink in inks) < 20
    assert not any(max(ink) < 60 for ink in inks), "black words"

    figure.savefig(after, format="png", dpi=50)
    FIGURES[name]().savefig(before, format="png", dpi=50)
    assert pixels(after.getvalue()) == pixels(before.getvalue()), "saved on white as ever"


@pytest.mark.parametrize("ground", [WHITE, "#111111"])
def test_greys_of_idle_time_differ_on_any_ground(ground):
    """On the dark theme "nothing left to compute" could hardly be seen on the page."""
    looks = [_CLEAR[idle_shade(reason)] for reason in ("done", "waiting", "overhead")]
    shades = [ground, *(mix(ground, colour, opacity) for colour, opacity in looks)]
    assert min(contrast(one, other) for one, other in pairwise(shades)) >= 1.2, shades
