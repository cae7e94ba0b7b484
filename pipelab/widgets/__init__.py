"""In a notebook: traces that play, a lab whose controls start live runs, schedules to edit.

``data``, ``page``, ``bundle`` and what they import need neither torch nor anywidget nor matplotlib;
the three widgets are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from pipelab.lazy import lazy_names
from pipelab.widgets import new_kernel

if TYPE_CHECKING:
    from pipelab.widgets.editor import ScheduleEditor
    from pipelab.widgets.lab import TimelineLab
    from pipelab.widgets.timeline import Timeline

__all__ = ["ScheduleEditor", "Timeline", "TimelineLab"]

__getattr__ = lazy_names(
    __name__, {"ScheduleEditor": "editor", "Timeline": "timeline", "TimelineLab": "lab"}
)

new_kernel.begin()
