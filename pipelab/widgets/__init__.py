"""In a notebook: traces that play, a lab that starts live runs, schedules to edit, levels to solve.

``data``, ``page``, ``bundle`` and what they import need neither torch nor anywidget nor matplotlib;
the four widgets are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from pipelab.lazy import lazy_names

if TYPE_CHECKING:
    from pipelab.widgets.editor import ScheduleEditor
    from pipelab.widgets.lab import TimelineLab
    from pipelab.widgets.level_widget import Levels
    from pipelab.widgets.timeline import Timeline

__all__ = ["Levels", "ScheduleEditor", "Timeline", "TimelineLab"]

__getattr__ = lazy_names(
    __name__,
    {
        "Levels": "level_widget",
        "ScheduleEditor": "editor",
        "Timeline": "timeline",
        "TimelineLab": "lab",
    },
)
