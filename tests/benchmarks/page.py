"""The page: what a run costs the browser and the kernel, on the cores that its ranks need.

JupyterLab is open in a headless Chromium without a GPU: the dearest way of drawing. Each run is
started by its button. From there on, for as long as the run takes and a second more, the
processor's time of the browser, the kernel and the ranks is added up; nothing is asked of the
page meanwhile, since that would cost, too.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import nbformat
import psutil
from playwright.sync_api import Page, sync_playwright

from pipelab.words import table_text
from tests.browser.conftest import (
    BROWSER_ARGS,
    KERNEL_IS_CONNECTED,
    TOKEN,
    Server,
    jupyterlab,
)

CELL = """from pipelab.widgets import TimelineLab

TimelineLab({ranks}, {microbatches}, "{schedule}")"""
AROUND = 1.15  # seconds after a run's own in which the page may still draw
START = "document.querySelector('[data-pl-state] .pl-again').click()"


class PageCost(NamedTuple):
    """Processor's seconds around one run, one entry per run."""

    schedule: str
    num_ranks: int
    num_microbatches: int
    browser: list[float]
    kernel: list[float]
    ranks: list[float]

    @property
    def ours(self) -> float:
        """Median of browser and kernel together."""
        return median(a + b for a, b in zip(self.browser, self.kernel, strict=True))

    def to_json(self) -> dict[str, object]:
        """Plain data, seconds."""
        return {**self._asdict(), "ours": self.ours}


def bench_page(schedule: str, num_ranks: int, num_microbatches: int, runs: int) -> PageCost:
    """Open a lab of this size, and run it again and again."""
    cell = CELL.format(ranks=num_ranks, microbatches=num_microbatches, schedule=schedule)
    found: list[tuple[float, float, float]] = []
    with (
        tempfile.TemporaryDirectory(prefix="pipelab-page-", ignore_cleanup_errors=True) as home,
        jupyterlab(Path(home)) as server,
        _page(server, cell) as page,
    ):
        seconds = (num_microbatches + num_ranks - 1) * 0.03 + AROUND
        for _ in range(runs + 1):  # the first one warms up
            page.wait_for_timeout(1000)
            before = _spent(server)
            page.evaluate(START)
            time.sleep(seconds)
            while not page.locator("[data-pl-state=done]").count():  # on a busy machine
                time.sleep(seconds)
            found.append(_differences(before, _spent(server)))
    browser, kernel, ranks = (list(column) for column in zip(*found[1:], strict=True))
    return PageCost(schedule, num_ranks, num_microbatches, browser, kernel, ranks)


def page_table(results: list[PageCost]) -> str:
    """One line per lab."""
    head = ["lab", "browser, s", "kernel, s", "both, s", "ranks, s"]
    rows = []
    for r in results:
        columns = [median(r.browser), median(r.kernel), r.ours, median(r.ranks)]
        name = f"{r.schedule} {r.num_ranks} x {r.num_microbatches}"
        rows.append([name, *(f"{seconds:.3f}" for seconds in columns)])
    return table_text([head, *rows])


def _spent(server: Server) -> dict[str, dict[int, float]]:
    """Processor's seconds of each process: of the browser, the kernel, its ranks."""
    found: dict[str, dict[int, float]] = {"browser": {}, "kernel": {}, "ranks": {}}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it may end at this moment
            words = " ".join(process.cmdline())
            part = (
                "browser" if "chrom" in words
                else "ranks" if "pipelab-forkserver" in words
                else "kernel" if "ipykernel" in words
                else None
            )  # fmt: skip
            if part is not None:
                times = process.cpu_times()
                reaped = times.children_user + times.children_system if part == "ranks" else 0.0
                found[part][process.pid] = times.user + times.system + reaped
    return found


def _differences(
    before: dict[str, dict[int, float]], after: dict[str, dict[int, float]]
) -> tuple[float, float, float]:
    browser, kernel, ranks = (
        sum(seconds - before[part].get(pid, 0.0) for pid, seconds in own.items())
        for part, own in after.items()
    )
    return browser, kernel, ranks


@contextmanager
def _page(server: Server, cell: str) -> Iterator[Page]:
    """The notebook of one cell, run, in front."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, server.notebooks / "page.ipynb")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"http://127.0.0.1:{server.port}/lab/tree/page.ipynb?token={TOKEN}")
        page.wait_for_function("() => window.jupyterapp")
        page.evaluate("async () => { await jupyterapp.started; await jupyterapp.restored; }")
        page.wait_for_function(KERNEL_IS_CONNECTED)
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.locator("[data-pl-state=done]").wait_for(timeout=60_000)
        page.locator("[data-pl-state]").scroll_into_view_if_needed()
        yield page
        browser.close()
