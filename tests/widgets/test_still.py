"""The still picture stands on a light and on a dark page, and is as clean as the widget's first."""

import io

import pytest
from PIL import Image

from pipelab.plots.any_theme import MIDDLE
from pipelab.plots.palette import contrast
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.widgets.static_picture import png

TRACE = simulate(one_f_one_b(3, 4), Cost(0.01, 0.01, 0.01, latency=0.002))
DARK = "#111111"  # of JupyterLab's dark theme


def drawn(**options) -> Image.Image:
    return Image.open(io.BytesIO(png(TRACE, (0.2, "your prediction: 200 ms"), **options)))


def test_it_has_no_background_and_its_words_read_on_both():
    picture = drawn().convert("RGBA")
    corners = [(0, 0), (picture.width - 1, picture.height - 1), (0, picture.height - 1)]
    assert all(picture.getpixel(corner)[3] == 0 for corner in corners)
    assert contrast(MIDDLE, "#FFFFFF") > 4.2 and contrast(MIDDLE, DARK) > 4.2


@pytest.mark.parametrize("page", ["#FFFFFF", DARK])
def test_names_and_idle_time_are_seen_on_it(page):
    picture = drawn().convert("RGBA")
    shown = Image.new("RGB", picture.size, page)
    shown.paste(picture, mask=picture)
    width, height = picture.size

    def strongest(*box: float) -> float:
        x0, y0, x1, y1 = box
        part = shown.crop((int(x0 * width), int(y0 * height), int(x1 * width), int(y1 * height)))
        colours = {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in part.getcolors(1 << 20)}
        return max(contrast(colour, page) for colour in colours)

    assert strongest(0.0, 0.2, 0.07, 0.8) > 4, "the ranks' names"
    assert strongest(0.9, 0.2, 1.0, 0.8) > 4, "how idle they were"
    assert strongest(0.0, 0.9, 1.0, 1.0) > 4, "the source line"


def test_messages_are_drawn_where_they_are_shown():
    assert drawn().height < drawn(show=("messages",)).height
