"""In a notebook: traces that play, a lab whose controls start live runs, schedules to edit."""

from pipelab.widgets.editor import ScheduleEditor
from pipelab.widgets.lab import TimelineLab
from pipelab.widgets.timeline import Timeline

__all__ = ["ScheduleEditor", "Timeline", "TimelineLab"]
