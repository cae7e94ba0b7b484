"""The frontier: bubble against memory, the best that is known as a line, schedules as points."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelab.plots.palette import BLACK, BUSY, QUIET
from pipelab.plots.picture import NORMAL, POINTS, SMALL, Picture, text_width
from pipelab.schedules.catalogue import title_of
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.recognition import order_of
from pipelab.simulator import Frontier
from pipelab.trace import Trace
from pipelab.words import percent

_LINE, _POINT = "#0072b2", "#d55e00"  # okabe_ito's blue and vermilion
_RADIUS, _CROSS = 4.0, 5.0  # of a point and of a recorded one, in points
_APART = 4.0  # points between a name and a recorded one, whose cross looks like a letter
_HEIGHTS = (8, -9, 20, -21, 32, -33, 44)  # of a name above its point; the far ones get a line
_NEAR = 10  # a name at such a height needs no line

_Place = tuple[float, float]
_Box = tuple[float, float, float, float]  # left, right, middle and half a height, in points


class _Run(NamedTuple):
    peak: float
    share: float  # %
    disturbed: bool


def plot_frontier(
    frontier: Frontier,
    title: str | None = None,
    *,
    recorded: Sequence[Trace] = (),
    width: float = 8.0,
) -> Figure:
    """The bubble of the best schedule within each memory limit, and the named schedules.

    Args:
        frontier: of ``pipelab.simulator.frontier``.
        title: instead of the sizes.
        recorded: traces of the same sizes and cost, drawn beside what is predicted; hollow where
            the machine was busy.
        width: inches.
    """
    figure = Picture(figsize=(width, 0.62 * width), dpi=144)
    runs = [_Run(_peak(trace), 100 * trace.bubble_fraction, bool(trace.warning))
            for trace in recorded]  # fmt: skip
    figure.alt = _words(frontier, runs)
    ax = figure.add_axes((0.1, 0.13, 0.86, 0.76))
    most = max(p.peak for p in (*frontier.line, *frontier.named))
    peaks = [*(p.peak for p in frontier.line), most + 0.4]
    shares = [100 * p.bubble_fraction for p in frontier.line]
    ax.step(peaks, [*shares, shares[-1]], where="post", color=_LINE, linewidth=2,
            label="predicted: the shortest that we know of")  # fmt: skip
    ax.plot(
        [p.peak for p in frontier.named], [100 * p.bubble_fraction for p in frontier.named],
        linestyle="none", marker="o", color=_POINT, label="predicted: schedules of the catalogue",
    )  # fmt: skip
    _draw_runs(ax, [run for run in runs if not run.disturbed], "recorded on real ranks", marker="x",
               color=BLACK)  # fmt: skip
    _draw_runs(ax, [run for run in runs if run.disturbed], "recorded while the machine was busy",
               marker="o", color=BUSY, markerfacecolor="none")  # fmt: skip
    ax.set(xlim=(0.5, most + 0.4), ylim=(0, max(5, ax.get_ylim()[1])))
    ax.set_xlabel("activations on the fullest rank, in microbatches of its slice")
    ax.set_ylabel("bubble fraction, %")
    ax.set_title(title or _sizes(frontier), fontsize=NORMAL + 1, loc="left")
    ax.legend(fontsize=NORMAL - 1, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    _name(ax, frontier, runs)
    return figure


def _draw_runs(ax: Axes, runs: Sequence[_Run], label: str, **look: Any) -> None:
    if runs:
        ax.plot(
            [run.peak for run in runs], [run.share for run in runs], linestyle="none", markersize=8,
            markeredgewidth=2, label=label, **look,
        )  # fmt: skip


def _name(ax: Axes, frontier: Frontier, runs: Sequence[_Run]) -> None:
    """The names of all points, each where it covers no other name or point and stays inside.

    ``runs`` have no names, but their crosses are points, too.
    """
    places: dict[tuple[float, float], list[str]] = {}
    for point in frontier.named:
        place = point.peak, round(100 * point.bubble_fraction, 6)
        places.setdefault(place, []).append(title_of(point.name))
    points_of = ax.transData.transform  # pixels
    scale = POINTS / ax.figure.dpi
    box = ax.get_window_extent()
    texts = {
        place: ", ".join(names) if len(names) < 5 else f"{', '.join(names[:3])} and others"
        for place, names in places.items()
    }
    room = _Room(
        {place: tuple(points_of(place) * scale) for place in places},
        [tuple(points_of((run.peak, run.share)) * scale) for run in runs],
        box.x1 * scale,
        box.y0 * scale,
    )
    by_share = sorted(places, key=lambda place: place[::-1])
    orders = [sorted(places), sorted(places, reverse=True), by_share, by_share[::-1]]
    _, found = min((room.placed(texts, order) for order in orders), key=lambda tried: tried[0])
    for place, (left, middle) in found.items():
        x, y = room.at[place]
        line = {"arrowstyle": "-", "color": QUIET, "shrinkA": 1, "shrinkB": _RADIUS}
        ax.annotate(
            texts[place], place, xytext=(left - x, middle - y), textcoords="offset points",
            fontsize=SMALL, va="center", color=BLACK,
            arrowprops=line if abs(middle - y) > _NEAR else None,
        )  # fmt: skip


class _Room(NamedTuple):
    """Where names may stand, in points: the points to name, the crosses, and two edges."""

    at: dict[_Place, _Place]
    crosses: list[_Place]
    right: float
    bottom: float

    def placed(
        self, texts: dict[_Place, str], order: Sequence[_Place]
    ) -> tuple[int, dict[_Place, _Place]]:
        """Left end and middle of each name, the first ones where they like; and how bad that is."""
        names: list[_Box] = []
        worse, found = 0, {}
        for place in order:
            x, y = self.at[place]
            long = text_width(texts[place], SMALL)
            tries = [(x + dx - long * (dx < 0), y + dy) for dy in _HEIGHTS for dx in (6, -6)]
            tries = [(left, middle) for left, middle in tries if middle > self.bottom + SMALL / 2]
            taken = [*names, *self._points_around(x, y)]
            free = (k for k, at in enumerate(tries) if _is_free(at, long, self.right, taken))
            k = next(free, len(tries))
            worse += k
            found[place] = left, middle = tries[k % len(tries)]
            names.append((left, left + long, middle, SMALL / 2))
        return worse, found

    def _points_around(self, x: float, y: float) -> Iterator[_Box]:
        """The points that no name may cover, and the crosses, except a point's own."""
        for a, b in self.at.values():
            yield a - _RADIUS, a + _RADIUS, b, _RADIUS
        wide = _CROSS + _APART
        for a, b in self.crosses:
            if abs(a - x) > _CROSS or abs(b - y) > 2 * _CROSS:
                yield a - wide, a + wide, b, _CROSS


def _is_free(at: _Place, long: float, right: float, taken: Sequence[_Box]) -> bool:
    """Whether a name that begins there ends inside, and meets no other one and no point."""
    left, middle = at
    meets = (
        a < left + long and left < b and abs(y - middle) < half + SMALL / 2
        for a, b, y, half in taken
    )  # fmt: skip
    return left > 0 and left + long < right and not any(meets)


def _peak(trace: Trace) -> float:
    """Activations on the fullest rank, counted in the order that a trace shows."""
    return max(peak_activations(order_of(trace)))


def _sizes(frontier: Frontier) -> str:
    sizes = f"p = {frontier.num_ranks}, m = {frontier.num_microbatches}"
    return f"Bubble against memory: {sizes}, {frontier.cost} for a rank's slice"


def _words(frontier: Frontier, runs: Sequence[_Run]) -> str:
    line = ", ".join(
        f"{percent(p.bubble_fraction, 1)} with {p.peak:g} ({title_of(p.name)})"
        for p in frontier.line
    )
    seen = ", ".join(
        f"{run.share:.1f} % with {run.peak:g}{' on a busy machine' * run.disturbed}" for run in runs
    )
    words = f"{_sizes(frontier)}. The least predicted bubble that we know of: {line}."
    return words + f" Recorded: {seen}." * bool(seen)
