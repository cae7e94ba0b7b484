"""A real JupyterLab, and Debian's Chromium in front of it: one of each for the whole session.

Nothing leaves the machine: the browser resolves no name at all, and any request that is not for
this machine, any error on the console and any uncaught exception fails the test that caused it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.browser_steps import PATIENCE, wait_for

collect_ignore = ["looks.py", "picture.py"]  # programs, not tests
ROOT = Path(__file__).parents[2]
LABCONFIG = ROOT / "pipelab" / "widgets" / "labconfig" / "default_setting_overrides.json"
TOKEN = uuid.uuid4().hex

BROWSER_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
KERNEL_IS_CONNECTED = """() => {
    const kernel = jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
NOTEBOOK = "jupyterapp.shell.currentWidget"
NO_CELL_IS_BUSY = """() => [...document.querySelectorAll(
    '.jp-NotebookPanel:not(.lm-mod-hidden) .jp-InputArea-prompt')]
    .every((prompt) => !prompt.textContent.includes('*'))"""

CHOOSE = """async (index) => {
    const notebook = jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    await notebook.scrollToItem(index, 'smart');
}"""
COUNT = "(index) => jupyterapp.shell.currentWidget.content.widgets[index].model.executionCount ?? 0"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "no chromium here: apt-get install --no-install-recommends chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGS)
        yield browser
        browser.close()


@dataclass
class Server:
    """JupyterLab on loopback, with all its folders below ``home``."""

    home: Path
    port: int
    pid: int = 0

    @property
    def notebooks(self) -> Path:
        return self.home / "root"

    def api(self, path: str, method: str = "GET") -> object:
        url = f"http://127.0.0.1:{self.port}/api/{path}?token={TOKEN}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as got:
            text = got.read()
        return json.loads(text) if text else None

    def start(self) -> "subprocess.Popen[bytes]":
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
            "PIPELAB_HOME": "progress",
            "root_dir": "root",
        }
        places = {name: self.home / folder for name, folder in folders.items()}
        for place in places.values():
            place.mkdir(parents=True)
        self.write_overrides(places["JUPYTER_CONFIG_DIR"] / "labconfig")
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": places.pop("root_dir"),
            "ServerApp.terminals_enabled": False,
            "IdentityProvider.token": TOKEN,
            "LabApp.expose_app_in_browser": True,
            "LabApp.extension_manager": "readonly",
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        command += [f"--{name}={value}" for name, value in options.items()]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, **{name: str(p) for name, p in places.items()}}
        with (self.home / "server.log").open("wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.pid = process.pid
        return process

    @property
    def saves_widget_state(self) -> bool:
        settings = json.loads(LABCONFIG.read_text("utf-8"))
        return settings.get("@jupyter-widgets/jupyterlab-manager:plugin", {}).get(
            "saveState", False
        )

    def write_overrides(self, folder: Path) -> None:
        """The package's own settings (an editable install may lack them), and no news."""
        settings = json.loads(LABCONFIG.read_text("utf-8"))
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        settings["@jupyterlab/apputils-extension:notification"] = quiet
        folder.mkdir()
        (folder / LABCONFIG.name).write_text(json.dumps(settings), "utf-8")

    def wait_until_up(self, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.api("status")
                return
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"no server:\n{(self.home / 'server.log').read_text('utf-8')}")
                time.sleep(0.1)

    def ranks(self) -> list[int]:
        """The processes of all pipelines in all kernels: the children of their fork servers."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.Error):  # it may end at this moment
                is_server = "pipelab-forkserver" in process.parent().cmdline()
                if is_server and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def end_kernels(self) -> None:
        """A closed page leaves its kernel behind; with it goes every process that it started."""
        family = psutil.Process(self.pid).children(recursive=True)
        with suppress(OSError):  # it may have ended before
            for session in self.api("sessions"):
                self.api(f"sessions/{session['id']}", "DELETE")
        wait_for(lambda: not any(map(is_alive, family)))


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE  # whose parent ended, and nobody reaps it
    return False


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def jupyterlab(home: Path) -> Iterator[Server]:
    """A server of JupyterLab with a folder for all that it writes."""
    server = Server(home, free_port())
    process = server.start()
    try:
        server.wait_until_up(process)
        yield server
        server.end_kernels()
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyterlab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@dataclass
class Lab:
    """A notebook open in JupyterLab, as a learner drives it."""

    page: Page
    server: Server

    def open(self, name: str) -> None:
        """Open a notebook in a new workspace, or the tabs of earlier tests come back."""
        workspace = f"lab/workspaces/{uuid.uuid4().hex}/tree/{name}"
        address = f"http://127.0.0.1:{self.server.port}/{workspace}?token={TOKEN}"
        self.page.goto(address, wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate("async () => { await jupyterapp.started; await jupyterapp.restored; }")
        self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for()

    def connect(self) -> None:
        """Wait for the kernel; a run before that asks to select one."""
        self.page.wait_for_function(KERNEL_IS_CONNECTED)

    def run_all(self) -> None:
        self.connect()
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(NO_CELL_IS_BUSY)

    def start_cell(self, place: int) -> None:
        """Start one cell, and do not wait for it."""
        self.connect()
        self.page.evaluate(f"() => {{ {NOTEBOOK}.content.activeCellIndex = {place}; }}")
        self.command("notebook:run-cell")

    def output(self, place: int) -> Locator:
        """What a cell put out."""
        cells = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")
        return cells.nth(place).locator(".jp-OutputArea-output")

    def command(self, name: str, **arguments: object) -> None:
        call = f"jupyterapp.commands.execute({name!r}, {json.dumps(arguments)})"
        self.page.evaluate(f"() => {{ {call}; }}")  # braces: the promise would be waited for

    def choose(self, index: int) -> Locator:
        """The cell with this number, in view."""
        self.page.evaluate(CHOOSE, index)
        cell = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell.jp-mod-active")
        cell.locator(".cm-content").scroll_into_view_if_needed()
        return cell

    def type(self, index: int, source: str) -> None:
        """Put another text into a cell, by the keyboard."""
        self.choose(index).locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(source)

    def run_cell(self, index: int) -> Locator:
        """Shift+Enter in a cell; its outputs, once it is done."""
        cell = self.choose(index)
        before = self.page.evaluate(COUNT, index)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_function(f"() => ({COUNT})({index}) > {before}")
        return self.choose(index).locator(".jp-OutputArea-output")

    def save(self) -> None:
        self.page.evaluate("async () => { await jupyterapp.commands.execute('docmanager:save'); }")

    @property
    def root(self) -> Locator:
        """The lab's own element."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) [data-pl-state]")

    def open_with_all_controls(self, name: str) -> Locator:
        """Open a notebook that begins with a lab; its first run is over, all controls are shown."""
        self.open(name)
        self.start_cell(0)
        self.expect_run(1)
        self.root.scroll_into_view_if_needed()
        self.root.get_by_text("More", exact=True).click()
        return self.root

    def expect_run(self, number: int, state: str = "done") -> None:
        expect(self.root).to_have_attribute("data-pl-run", str(number))
        expect(self.root).to_have_attribute("data-pl-state", state)


@dataclass
class Window:
    """One window for all tests: JupyterLab's own files come from its cache after the first."""

    context: BrowserContext
    complaints: list[str]


@pytest.fixture(scope="session")
def window(browser: Browser, server: Server) -> Iterator[Window]:
    """What it complains about: errors on the console, uncaught ones, requests for other machines.

    They are observed and not routed, since a routed request never comes from the cache.
    """
    complaints: list[str] = []
    here = (f"http://127.0.0.1:{server.port}/", "data:", "blob:")

    def look(request: Request) -> None:
        if not request.url.startswith(here):
            complaints.append(f"request for {request.url}")

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    context.on("request", look)
    context.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield Window(context, complaints)
    context.close()


@pytest.fixture
def lab(window: Window, server: Server) -> Iterator[Lab]:
    """A fresh page. At its end: nothing on the console, nothing asked of another machine."""
    expect.set_options(timeout=PATIENCE * 1000)
    window.complaints.clear()
    page = window.context.new_page()
    yield Lab(page, server)
    page.close(run_before_unload=False)
    server.end_kernels()
    assert not window.complaints, window.complaints


@pytest.fixture
def sheet(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an exported file; at its end: nothing on the console, nothing asked of anybody."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: Path, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.on("console", lambda m: complaints.append(m.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on("request", lambda r: complaints.append(r.url) if foreign(r.url) else None)
        page = context.new_page()
        page.goto(path.as_uri())
        page.wait_for_function("() => document.querySelector('.pl-timeline')?.dataset.plTo")
        return page

    def foreign(address: str) -> bool:
        return not address.startswith(("file:///", "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, complaints


@pytest.fixture
def lesson(server: Server) -> str:
    """A fresh copy of the first lesson, never trusted before."""
    name = f"{uuid.uuid4().hex[:8]}.ipynb"
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", server.notebooks / name)
    return name


@pytest.fixture
def notebook(server: Server) -> Callable[..., str]:
    """Writes a notebook of these cells."""

    def write(*cells: str) -> str:
        name = f"{uuid.uuid4().hex[:8]}.ipynb"
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(book, server.notebooks / name)
        return name

    return write
