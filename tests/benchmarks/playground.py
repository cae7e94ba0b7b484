"""The playground: how soon its first prediction is there, and what each change takes.

Its page is open in a headless Chromium, from a static host on this machine. A first change loads
Python and predicts; later ones are a token that is moved by its key, or a new number in a field.
Time runs from the event until the picture that answers it was painted. What comes after the
picture (a name, par) does not count.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from playwright.sync_api import Page, sync_playwright

from pipelab.site.playground import build_playground
from pipelab.words import table_text
from tests.browser.conftest import BROWSER_ARGS
from tests.browser.static_host import served

CHANGES = 12  # of each kind
_REST = 1000  # ms between two: the search for par of the one before has ended
_ANSWERED = """async (act) => {
  const view = document.querySelector("#view"), before = view.dataset.plAnswers ?? "0";
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const began = performance.now();
  const answered = new Promise((done) => {
    const observer = new MutationObserver(() => {
      if (view.dataset.plAnswers === before) return;
      observer.disconnect();
      done();
    });
    observer.observe(view, { attributes: true });
  });
  (CHANGE)(act);
  await answered;
  await frame();
  return performance.now() - began;
}"""
_MOVE = """(place) => {
  const token = document.querySelector(".pl-row").querySelectorAll(".pl-token")[place];
  token.focus();
  const key = { key: "ArrowRight", shiftKey: true, bubbles: true };
  token.dispatchEvent(new KeyboardEvent("keydown", key));
}"""
_FILL = """([words, value]) => {
  const fields = [...document.querySelectorAll(".pl-field")];
  const input = fields.find((field) => field.textContent.includes(words)).querySelector("input");
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}"""
_READ = """(words) => [...document.querySelectorAll(".pl-field")]
  .find((field) => field.textContent.includes(words)).querySelector("input").value"""


class PlaygroundTimes(NamedTuple):
    """Seconds from a first change, which starts Python, and from each later one, to its picture."""

    num_ranks: int
    num_microbatches: int
    first: float
    moves: list[float]
    fields: list[float]

    def to_json(self) -> dict[str, object]:
        """Plain data, seconds."""
        return self._asdict()


def bench_playground(num_ranks: int, num_microbatches: int) -> PlaygroundTimes:
    """Open the playground, choose the sizes, and change it again and again."""
    with _page() as page:
        first = _change(page, _FILL, ["Forward F", "9"])
        for words, value in (("Ranks", num_ranks), ("Microbatches", num_microbatches)):
            if page.evaluate(_READ, words) != str(value):
                _change(page, _FILL, [words, str(value)])
        moves = [_change(page, _MOVE, num_ranks + 2 * (k % 4)) for k in range(CHANGES)]
        fields = [_change(page, _FILL, ["Forward F", str(11 + k)]) for k in range(CHANGES)]
    return PlaygroundTimes(num_ranks, num_microbatches, first, moves, fields)


def playground_table(results: list[PlaygroundTimes]) -> str:
    """One line per size."""
    head = ["playground", "first, s", "token moved, ms", "worst", "field changed, ms", "worst"]
    rows = []
    for r in results:
        kinds = (r.moves, r.fields)
        times = [f"{1e3 * pick(kind):.0f}" for kind in kinds for pick in (median, max)]
        rows.append([f"{r.num_ranks} x {r.num_microbatches}", f"{r.first:.1f}", *times])
    return table_text([head, *rows])


def _change(page: Page, change: str, act: object) -> float:
    page.wait_for_timeout(_REST)
    taken: float = page.evaluate(_ANSWERED.replace("CHANGE", change), act)
    return taken / 1e3


@contextmanager
def _page() -> Iterator[Page]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory(prefix="pipelab-playground-") as home:
        build_playground(Path(home))
        with served(Path(home)) as host, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{host}/index.html")
            yield page
            browser.close()
