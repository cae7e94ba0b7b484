"""What several browser tests wait for. Each wait is for a state that cannot be there too early."""

import time
from collections.abc import Callable

from playwright.sync_api import Page

LAB = "from pipelab.widgets import TimelineLab\n\nTimelineLab()"  # a cell
PATIENCE = 60.0  # seconds; shared machines have slow minutes


def settled(page: Page) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")


def under_way(page: Page, time: float) -> None:
    """Wait until the replay, which stood at its end, has begun again and is past ``time``."""
    page.wait_for_function(
        """(time) => { const now = document.querySelector('.pl-timeline').dataset;
        return now.plTime > time && +now.plTime < +now.plTo; }""",
        arg=time,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask again and again, from here."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)
