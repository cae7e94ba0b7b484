"""In a notebook: traces that play, a lab whose controls start live runs, schedules to edit.

``data``, ``page``, ``bundle`` and what they import need neither torch nor anywidget nor matplotlib;
the three widgets are loaded when they are first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelab.widgets.editor import ScheduleEditor
    from pipelab.widgets.lab import TimelineLab
    from pipelab.widgets.timeline import Timeline

__all__ = ["ScheduleEditor", "Timeline", "TimelineLab"]

_HOME = {"ScheduleEditor": "editor", "Timeline": "timeline", "TimelineLab": "lab"}


def __getattr__(name: str) -> object:
    """Load a widget with its module, when it is first used."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
