"""The bubble against the number of microbatches: recorded points, the formula, and predictions."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from pipelab.plots.palette import BLACK, QUIET
from pipelab.plots.picture import NORMAL, TablePicture
from pipelab.trace import expected_bubble_fraction
from pipelab.words import percent

_POINT, _CROSS = "#0072b2", "#d55e00"  # okabe_ito's blue and vermilion
_HEADS = ("ranks", "microbatches", "recorded", "formula", "predicted")

Shares = Mapping[tuple[int, int], float]


def plot_bubble(
    recorded: Shares, *, predicted: object = None, title: str | None = None, width: float = 8.0
) -> TablePicture:
    """Recorded bubble fractions beside (p - 1)/(m + p - 1), as a new figure with its table.

    The formula is that of GPipe and 1F1B with equal stages and free messages (arXiv 2104.04473,
    section 2.2); it is drawn as a line for each number of ranks.

    Args:
        recorded: bubble fractions, shares of 1, by (ranks, microbatches).
        predicted: shares in the same form, drawn as crosses; anything else is not drawn.
        title: instead of a general one.
        width: inches.

    Raises:
        ValueError: nothing was recorded.
    """
    if not recorded:
        raise ValueError("nothing to draw: give bubble fractions such as {(4, 8): 0.27}")
    said: Shares = predicted if isinstance(predicted, Mapping) else {}
    figure = TablePicture(figsize=(width, 0.5 * width), dpi=144)
    figure.heads = _HEADS
    figure.rows = tuple(_row(sizes, share, said.get(sizes)) for sizes, share in recorded.items())
    figure.alt = _words(recorded, said)
    ax = figure.add_axes((0.1, 0.14, 0.86, 0.76))
    for p in sorted({p for p, _ in recorded}):
        _draw_curve(ax, p, max(m for _, m in recorded))
    _draw_points(ax, recorded, "o", _POINT, "recorded")
    _draw_points(ax, {k: said[k] for k in recorded if k in said}, "x", _CROSS, "your prediction")
    _label(ax, sorted({m for _, m in recorded}), title or "Bubble fraction against microbatches")
    return figure


def _draw_curve(ax: Axes, p: int, most: int) -> None:
    """The formula, also between the numbers of microbatches that can be run."""
    ms = [1 + (most - 1) * i / 200 for i in range(201)]
    shares = [100 * (p - 1) / (m + p - 1) for m in ms]
    ax.plot(ms, shares, color=QUIET, linewidth=1.5, label=f"(p−1)/(m+p−1), p = {p}")


def _draw_points(ax: Axes, shares: Shares, mark: str, colour: str, label: str) -> None:
    if shares:
        ms, heights = [m for _, m in shares], [100 * share for share in shares.values()]
        ax.plot(ms, heights, mark, color=colour, label=label, markersize=9, markeredgewidth=2)


def _label(ax: Axes, ms: list[int], title: str) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ms))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([str(m) for m in ms])
    ax.set_ylim(0, None)
    ax.set_xlabel("microbatches m", color=BLACK)
    ax.set_ylabel("bubble fraction, %", color=BLACK)
    ax.set_title(title, fontsize=NORMAL + 1, loc="left")
    ax.legend(fontsize=NORMAL - 1, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def _row(sizes: tuple[int, int], share: float, said: float | None) -> tuple[str, ...]:
    formula = expected_bubble_fraction(*sizes)
    shares = (f"{share:.2f}", f"{formula:.2f}", "" if said is None else f"{said:.2f}")
    return (str(sizes[0]), str(sizes[1]), *shares)


def _words(recorded: Shares, said: Shares) -> str:
    def of(sizes: tuple[int, int], share: float) -> str:
        p, m = sizes
        formula = percent(expected_bubble_fraction(p, m))
        own = f", predicted {percent(said[sizes])}" if sizes in said else ""
        return f"p = {p}, m = {m}: {percent(share)}, formula {formula}{own}"

    return "Recorded bubble fractions. " + "; ".join(of(*item) for item in recorded.items()) + "."
