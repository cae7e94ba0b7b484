"""The frontier: bubble against memory, the best that is known as a line, schedules as points."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelab.plots.palette import BLACK
from pipelab.plots.picture import NORMAL, POINTS, SMALL, Picture, text_width
from pipelab.schedules.catalogue import title_of
from pipelab.simulator import Frontier
from pipelab.words import percent

_LINE, _POINT = "#0072b2", "#d55e00"  # okabe_ito's blue and vermilion


def plot_frontier(frontier: Frontier, title: str | None = None, *, width: float = 8.0) -> Figure:
    """The bubble of the best schedule within each memory limit, and the named schedules.

    Args:
        frontier: of ``pipelab.simulator.frontier``.
        title: instead of the sizes.
        width: inches.
    """
    figure = Picture(figsize=(width, 0.62 * width), dpi=144)
    figure.alt = _words(frontier)
    ax = figure.add_axes((0.1, 0.13, 0.86, 0.76))
    most = max(p.peak for p in (*frontier.line, *frontier.named))
    peaks = [*(p.peak for p in frontier.line), most + 0.4]
    shares = [100 * p.bubble_fraction for p in frontier.line]
    ax.step(peaks, [*shares, shares[-1]], where="post", color=_LINE, linewidth=2,
            label="the shortest that we know of within this memory")  # fmt: skip
    ax.plot(
        [p.peak for p in frontier.named], [100 * p.bubble_fraction for p in frontier.named],
        linestyle="none", marker="o", color=_POINT, label="schedules of the catalogue",
    )  # fmt: skip
    ax.set(xlim=(0.5, most + 0.4), ylim=(0, None))
    ax.set_xlabel("activations on the fullest rank, in microbatches of its slice")
    ax.set_ylabel("bubble fraction, % (predicted)")
    ax.set_title(title or _sizes(frontier), fontsize=NORMAL + 1, loc="left")
    ax.legend(fontsize=NORMAL - 1, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    _name(ax, frontier)
    return figure


def _name(ax: Axes, frontier: Frontier) -> None:
    """The names of all points, each where it covers no other name and stays inside."""
    places: dict[tuple[float, float], list[str]] = {}
    for point in frontier.named:
        place = point.peak, round(100 * point.bubble_fraction, 6)
        places.setdefault(place, []).append(title_of(point.name))
    points_of = ax.transData.transform  # pixels
    scale = POINTS / ax.figure.dpi
    right = ax.get_window_extent().x1 * scale
    taken: list[tuple[float, float, float]] = []  # left, right and middle of a name, in points
    for place, names in sorted(places.items()):
        x, y = points_of(place) * scale
        text = ", ".join(names)
        long = text_width(text, SMALL)
        tries = [(x + dx - long * (dx < 0), y + dy) for dy in (8, -9, 20, -21) for dx in (6, -6)]
        at = next((t for t in tries if _is_free(t, long, right, taken)), tries[0])
        taken.append((at[0], at[0] + long, at[1]))
        ax.annotate(text, place, xytext=(at[0] - x, at[1] - y), textcoords="offset points",
                    fontsize=SMALL, va="center", color=BLACK)  # fmt: skip


def _is_free(
    at: tuple[float, float], long: float, right: float, taken: Sequence[tuple[float, float, float]]
) -> bool:
    """Whether a name that begins there ends inside, and meets no other one."""
    left, middle = at
    meets = (a < left + long and left < b and abs(y - middle) < SMALL for a, b, y in taken)
    return left + long < right and not any(meets)


def _sizes(frontier: Frontier) -> str:
    sizes = f"p = {frontier.num_ranks}, m = {frontier.num_microbatches}"
    return f"Bubble against memory: {sizes}, {frontier.cost} for a rank's slice"


def _words(frontier: Frontier) -> str:
    line = ", ".join(
        f"{percent(p.bubble_fraction, 1)} with {p.peak:g} ({title_of(p.name)})"
        for p in frontier.line
    )
    return f"{_sizes(frontier)}. The least bubble that we know of: {line}."
