"""Pictures and words of a trace. matplotlib is loaded by the first picture, not by the import."""

from typing import TYPE_CHECKING

from pipelab.lazy import lazy_names

if TYPE_CHECKING:
    from pipelab.plots.bubble_plot import plot_bubble
    from pipelab.plots.figure import plot_timeline
    from pipelab.plots.frontier_plot import plot_frontier
    from pipelab.plots.memory_plot import plot_memory
    from pipelab.plots.side_by_side import plot_compare
    from pipelab.plots.terminal import describe, timeline_text
    from pipelab.plots.waits import plot_waits

__all__ = [
    "describe",
    "plot_bubble",
    "plot_compare",
    "plot_frontier",
    "plot_memory",
    "plot_timeline",
    "plot_waits",
    "timeline_text",
]

__getattr__ = lazy_names(
    __name__,
    {
        "describe": "terminal",
        "plot_bubble": "bubble_plot",
        "plot_compare": "side_by_side",
        "plot_frontier": "frontier_plot",
        "plot_memory": "memory_plot",
        "plot_timeline": "figure",
        "plot_waits": "waits",
        "timeline_text": "terminal",
    },
)
