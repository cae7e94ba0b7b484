"""Who waits for whom when no rank can continue: an arrow from each rank to the one it waits for.

    ( rank 0 ) ──0SEND_F1──▶ ( rank 1 )      strong arrows are a ring: nobody in it can continue
         ▲────1SEND_B0────────────┘          pale ones lead to it: those ranks are not at fault

The wait-for graph of Coffman, Elphick and Shoshani (1971, "System deadlocks", section 4).
"""

from matplotlib.axes import Axes

from pipelab.errors import Blocked, DeadlockError
from pipelab.plots.palette import BLACK, QUIET, VERMILLION, WHITE
from pipelab.plots.picture import NORMAL, SMALL, TablePicture

_APART, _HIGH = 2.3, 2.6  # inches: from rank to rank, and of the picture
_BEND = 0.35  # of an arrow: how far its control point is from the straight line, in its length
_HEADS = ("rank", "cannot start", "waits for", "of rank", "in the ring")


def plot_waits(error: DeadlockError) -> TablePicture:
    """The wait-for graph of a deadlock, as a new figure with its words and its table.

    Ranks that do not wait and that nobody waits for are left out.
    """
    ring = {*error.cycle}
    peers = {b.peer for b in error.blocked if b.peer is not None}
    ranks = sorted({b.rank for b in error.blocked} | peers)
    places = {rank: i * _APART for i, rank in enumerate(ranks)}
    ways = [abs(places[b.rank] - places[b.peer]) for b in error.blocked if b.peer is not None]
    width = _APART * len(ranks)
    high = _HIGH + _BEND * (max(ways, default=_APART) - _APART)
    figure = TablePicture(figsize=(width, high), dpi=144)
    figure.heads = _HEADS
    figure.rows = tuple(_row(blocked, ring) for blocked in error.blocked)
    figure.alt = _words(error)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-_APART / 2, width - _APART / 2), ylim=(-high / 2, high / 2))
    ax.set_axis_off()
    for blocked in error.blocked:
        if blocked.peer is not None:
            _arrow(ax, blocked, places[blocked.rank], places[blocked.peer], blocked.rank in ring)
    for rank, place in places.items():
        _circle(ax, rank, place, rank in ring)
    return figure


def _row(blocked: Blocked, ring: set[int]) -> tuple[str, ...]:
    rank, action, needs, peer = blocked
    return str(rank), action, needs, "none" if peer is None else str(peer), _yes(rank in ring)


def _yes(is_true: bool) -> str:
    return "yes" if is_true else "no"


def _words(error: DeadlockError) -> str:
    """The alternative text."""
    arrows = [
        f"rank {b.rank} cannot start {b.action}, it waits for {b.needs} "
        + ("that no rank runs" if b.peer is None else f"of rank {b.peer}")
        for b in error.blocked
    ]
    ring = ", ".join(f"rank {rank}" for rank in error.cycle)
    end = f"In a ring wait: {ring}." if ring else "There is no ring."
    return f"Wait-for graph: {'; '.join(arrows)}. {end}"


def _arrow(ax: Axes, blocked: Blocked, start: float, end: float, is_ring: bool) -> None:
    """From a rank to the one it waits for: above to the right, below to the left."""
    ax.annotate(
        "",
        (end, 0.0),
        (start, 0.0),
        arrowprops={
            "arrowstyle": "-|>",
            "mutation_scale": 18,
            "connectionstyle": f"arc3,rad={-_BEND}",
            "color": VERMILLION if is_ring else QUIET,
            "linewidth": 2.6 if is_ring else 1.4,
            "linestyle": "-" if is_ring else "--",
            "shrinkA": 22,
            "shrinkB": 24,
        },
    )
    top = _BEND * (end - start) / 2
    ax.text(
        (start + end) / 2,
        top + (0.08 if top > 0 else -0.08),
        f"{blocked.action}\nwaits for {blocked.needs}",
        ha="center",
        va="bottom" if top > 0 else "top",
        fontsize=SMALL,
        color=BLACK,
    )


def _circle(ax: Axes, rank: int, place: float, is_ring: bool) -> None:
    edge, wide = (VERMILLION, 2.6) if is_ring else (BLACK, 1.4)
    box = {"boxstyle": "circle,pad=0.45", "facecolor": WHITE, "edgecolor": edge, "linewidth": wide}
    ax.text(place, 0.0, f"rank {rank}", ha="center", va="center", fontsize=NORMAL, bbox=box)
