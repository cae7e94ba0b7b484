"""Pictures and words of a trace. matplotlib is loaded by the first picture, not by the import."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelab.plots.figure import plot_timeline
    from pipelab.plots.side_by_side import plot_compare
    from pipelab.plots.terminal import describe, timeline_text

__all__ = ["describe", "plot_compare", "plot_timeline", "timeline_text"]

_HOME = {
    "describe": "terminal",
    "plot_compare": "side_by_side",
    "plot_timeline": "figure",
    "timeline_text": "terminal",
}


def __getattr__(name: str) -> object:
    """Load a public name with its module, when it is first asked for."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
