"""Pictures and words of a trace. matplotlib is loaded by the first picture, not by the import."""

from typing import TYPE_CHECKING

from pipelab.lazy import lazy_names

if TYPE_CHECKING:
    from pipelab.plots.figure import plot_timeline
    from pipelab.plots.memory_plot import plot_memory
    from pipelab.plots.side_by_side import plot_compare
    from pipelab.plots.terminal import describe, timeline_text

__all__ = ["describe", "plot_compare", "plot_memory", "plot_timeline", "timeline_text"]

__getattr__ = lazy_names(
    __name__,
    {
        "describe": "terminal",
        "plot_compare": "side_by_side",
        "plot_memory": "memory_plot",
        "plot_timeline": "figure",
        "timeline_text": "terminal",
    },
)
