"""The bubble against the number of microbatches: recorded points, the formula, and predictions."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from pipelab.plots.palette import BLACK, BUSY, QUIET
from pipelab.plots.picture import NORMAL, TablePicture
from pipelab.trace import Trace, expected_bubble_fraction
from pipelab.words import percent

_POINT, _CROSS = "#0072b2", "#d55e00"  # okabe_ito's blue and vermilion
_HEADS = ("ranks", "microbatches", "recorded", "formula", "predicted")

Shares = Mapping[tuple[int, int], float]


def plot_bubble(
    recorded: Mapping[tuple[int, int], float | Trace],
    *,
    predicted: object = None,
    title: str | None = None,
    width: float = 8.0,
) -> TablePicture:
    """Recorded bubble fractions beside (p - 1)/(m + p - 1), as a new figure with its table.

    The formula is that of GPipe and 1F1B with equal stages and free messages (arXiv 2104.04473,
    section 2.2); it is drawn as a line for each number of ranks.

    Args:
        recorded: traces, or bubble fractions as shares of 1, by (ranks, microbatches). The point
            of a trace that was recorded while the machine was busy is hollow, and its words say so.
        predicted: shares in the same form, drawn as crosses; anything else is not drawn.
        title: instead of a general one.
        width: inches.

    Raises:
        ValueError: nothing was recorded.
    """
    if not recorded:
        raise ValueError("nothing to draw: give bubble fractions such as {(4, 8): 0.27}")
    said: Shares = predicted if isinstance(predicted, Mapping) else {}
    shares = {k: r.bubble_fraction if isinstance(r, Trace) else r for k, r in recorded.items()}
    busy = {k: shares[k] for k, r in recorded.items() if isinstance(r, Trace) and r.warning}
    calm = {k: share for k, share in shares.items() if k not in busy}
    figure = TablePicture(figsize=(width, 0.5 * width), dpi=144)
    figure.heads = _HEADS
    figure.rows = tuple(
        _row(sizes, share, said.get(sizes), sizes in busy) for sizes, share in shares.items()
    )
    figure.alt = _words(shares, said, busy)
    ax = figure.add_axes((0.1, 0.14, 0.86, 0.76))
    for p in sorted({p for p, _ in recorded}):
        _draw_curve(ax, p, max(m for _, m in recorded))
    _draw_points(ax, calm, "o", _POINT, "recorded")
    _draw_points(ax, busy, "o", BUSY, "recorded while the machine was busy", markerfacecolor="none")
    _draw_points(ax, {k: said[k] for k in recorded if k in said}, "x", _CROSS, "your prediction")
    _label(ax, sorted({m for _, m in recorded}), title or "Bubble fraction against microbatches")
    return figure


def _draw_curve(ax: Axes, p: int, most: int) -> None:
    """The formula, also between the numbers of microbatches that can be run."""
    ms = [1 + (most - 1) * i / 200 for i in range(201)]
    shares = [100 * (p - 1) / (m + p - 1) for m in ms]
    ax.plot(ms, shares, color=QUIET, linewidth=1.5, label=f"(p−1)/(m+p−1), p = {p}")


def _draw_points(ax: Axes, shares: Shares, mark: str, colour: str, label: str, **look: Any) -> None:
    if shares:
        ms, heights = [m for _, m in shares], [100 * share for share in shares.values()]
        ax.plot(
            ms, heights, mark, color=colour, label=label, markersize=9, markeredgewidth=2, **look
        )


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


def _row(sizes: tuple[int, int], share: float, said: float | None, busy: bool) -> tuple[str, ...]:
    formula = expected_bubble_fraction(*sizes)
    seen = f"{share:.2f}{', on a busy machine' * busy}"
    return (*map(str, sizes), seen, f"{formula:.2f}", "" if said is None else f"{said:.2f}")


def _words(recorded: Shares, said: Shares, busy: Shares) -> str:
    def of(sizes: tuple[int, int], share: float) -> str:
        p, m = sizes
        formula = percent(expected_bubble_fraction(p, m))
        own = f", predicted {percent(said[sizes])}" if sizes in said else ""
        where = " on a busy machine" if sizes in busy else ""
        return f"p = {p}, m = {m}: {percent(share)}{where}, formula {formula}{own}"

    return "Recorded bubble fractions. " + "; ".join(of(*item) for item in recorded.items()) + "."
