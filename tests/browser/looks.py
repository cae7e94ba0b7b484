"""Photograph every picture of every lesson, as a learner sees it, for somebody to look at.

python -m tests.browser.looks OUT              all lessons, both themes, all widths
python -m tests.browser.looks OUT 04 06        some lessons
python -m tests.browser.looks OUT --themes dark --widths 1280

Each lesson's notebook with its answers is run in JupyterLab, once, and photographed at each width
in each theme; so are its stored outputs, which a reader sees who runs nothing, and the pages that
its timelines export, on a phone and on a tablet. OUT/04/dark-1280/ holds a picture for each cell,
OUT/04/dark-1280-1.png several of them on one sheet.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pipelab.lessons.edition import read, write
from tests.browser.conftest import BROWSER_ARGS, CHOOSE, ROOT, Lab, Server, jupyterlab

WIDTHS = {1280: 800, 1920: 1080, 1024: 768}  # of the browser's window, and its height
PAGES = (400, 768)  # widths of a page on a phone, on a tablet
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
TALL = 2600  # pixels of a window that shows an output whole
SHEET = 1920, 1500  # pixels of a sheet, at least: a larger photograph is not cut
MINUTES = 10  # that a lesson may take on a busy machine
CELLS = "() => jupyterapp.shell.currentWidget.content.widgets.length"
OUTPUT = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active .jp-Cell-outputArea"
SEEN = ".pl-root, img, table, .pl-editor"


def lesson(browser: Browser, server: Server, path: Path, out: Path, chosen: argparse.Namespace):
    """All photographs of one lesson."""
    stored = ROOT / "notebooks" / path.name
    for name, source, run in (("", path, True), ("stored-", stored, False)):
        context = browser.new_context(viewport={"width": 1280, "height": TALL})
        context.set_default_timeout(MINUTES * 60_000)
        lab = Lab(context.new_page(), server)
        write(read(source), server.notebooks / f"{name}{path.name}")
        lab.open(f"{name}{path.name}")
        lab.command("application:toggle-left-area")
        if run:
            lab.run_all()
            finished(lab.page)
        for theme in chosen.themes:
            for width in chosen.widths if run else chosen.widths[:1]:
                photographs(lab, theme, width, out / f"{name}{theme}-{width}", one_screen=run)
        if run:
            exported(browser, lab.page, chosen.themes, out)
        lab.page.close(run_before_unload=False)
        context.close()
        server.end_kernels()
    for folder in sorted(p for p in out.iterdir() if p.is_dir()):
        sheets(folder)


def finished(page: Page) -> None:
    """Wait for the runs of labs, which go on after their cells."""
    page.wait_for_function("() => !document.querySelector('[data-pl-state=running]')")


def photographs(lab: Lab, theme: str, width: int, folder: Path, one_screen: bool) -> None:
    """Each output that holds a picture; of labs also what the window itself shows."""
    folder.mkdir(parents=True)
    page = lab.page
    page.set_viewport_size({"width": width, "height": TALL})
    lab.command("apputils:change-theme", theme=THEMES[theme])
    page.wait_for_function(
        "(light) => document.body.dataset.jpThemeLight === light",
        arg=str(theme == "light").lower(),
    )
    page.wait_for_timeout(500)
    for index in range(page.evaluate(CELLS)):
        page.evaluate(CHOOSE, index)
        cell = page.locator(OUTPUT)
        if not cell.locator(SEEN).count():
            continue
        page.wait_for_timeout(300)
        cell.screenshot(path=folder / f"{index:02}.png")
        if one_screen and cell.locator("[data-pl-state]").count():
            page.set_viewport_size({"width": width, "height": WIDTHS[width]})
            cell.locator(".pl-root").first.evaluate("(lab) => lab.scrollIntoView()")
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{index:02}-window.png")
            page.set_viewport_size({"width": width, "height": TALL})


def exported(browser: Browser, page: Page, themes: Sequence[str], out: Path) -> None:
    """The pages that the lesson's buttons save, on small screens."""
    for number, button in enumerate(page.get_by_role("button", name="Export").all()):
        with page.expect_download() as download:
            button.click()
        file = out / f"page-{number}.html"
        download.value.save_as(file)
        for theme in themes:
            for width in PAGES:
                folder = out / f"page-{theme}-{width}"
                folder.mkdir(exist_ok=True)
                context = browser.new_context(
                    viewport={"width": width, "height": 800}, color_scheme=theme
                )
                sheet = context.new_page()
                sheet.goto(file.as_uri())
                sheet.wait_for_function("() => document.body.dataset.plReady")
                sheet.wait_for_timeout(300)
                sheet.screenshot(path=folder / f"{number:02}.png", full_page=True)
                context.close()


def sheets(folder: Path) -> None:
    """Several photographs on one sheet, in columns, in the order of the cells."""
    width, height = SHEET
    pages: list[Image.Image] = []
    x = y = column = 0
    for path in sorted(folder.glob("*.png")):
        shot = Image.open(path).convert("RGB")
        if y and y + shot.height > height:
            x, y, column = x + column + 12, 0, 0
        if not pages or (x and x + shot.width > width):
            size = max(width, shot.width), max(height, shot.height)
            pages.append(Image.new("RGB", size, "#808080"))
            x = y = column = 0
        pages[-1].paste(shot, (x, y))
        y, column = y + shot.height + 12, max(column, shot.width)
    for number, page in enumerate(pages, 1):
        page.save(folder.parent / f"{folder.name}-{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.looks")
    parser.add_argument("out", type=Path)
    parser.add_argument("lessons", nargs="*", help="their numbers; all, if none is given")
    parser.add_argument("--themes", nargs="+", choices=THEMES, default=list(THEMES))
    parser.add_argument("--widths", nargs="+", type=int, choices=WIDTHS, default=list(WIDTHS))
    chosen = parser.parse_args()
    notebooks = ROOT / "notebooks"
    paths = [*notebooks.glob("00_*.ipynb"), *sorted((notebooks / "teacher").glob("*.ipynb"))]
    with (
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory(prefix="looks-", ignore_cleanup_errors=True) as home,
        jupyterlab(Path(home)) as server,
    ):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGS)
        for path in paths:
            if not chosen.lessons or path.name[:2] in chosen.lessons:
                out = chosen.out / path.name[:2]
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir(parents=True)
                lesson(browser, server, path, out, chosen)
                print(f"{out}: look at its sheets", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
