"""Make ``notebooks/images/lab.png`` again: the lab in JupyterLab after a real run. Look at it.

python -m tests.browser.picture      on a quiet machine, or the picture shows the noise
"""

import shutil
import socket
import subprocess
import tempfile
import time
from io import BytesIO
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.conftest import BROWSER_ARGS, KERNEL_IS_CONNECTED, ROOT, TOKEN, Server

PICTURE = ROOT / "notebooks" / "images" / "lab.png"
WIDTH, HEIGHT, SCALE, SHOWN = 1180, 1000, 1.25, 900  # pixels of a page; the rows that are kept
CODE = """from pipelab.widgets import TimelineLab

TimelineLab(num_ranks=4, num_microbatches=8, schedule="1f1b")"""


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="pipelab-picture-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(home, probe.getsockname()[1])
    process = server.start()
    try:
        write_notebook(server.notebooks / "pipelab.ipynb")
        wait_until_up(server, process)
        save(screenshot(f"http://127.0.0.1:{server.port}/lab/tree/pipelab.ipynb?token={TOKEN}"))
        for session in server.api("sessions"):
            server.api(f"sessions/{session['id']}", "DELETE")
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home)


def write_notebook(path: Path) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(CODE)]
    nbformat.write(notebook, path)


def wait_until_up(server: Server, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            server.api("status")
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("JupyterLab did not start")


def screenshot(address: str) -> bytes:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
        size = {"width": WIDTH, "height": HEIGHT}
        page = browser.new_page(viewport=size, device_scale_factor=SCALE)
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_function("() => window.jupyterapp")
        page.evaluate("async () => { await jupyterapp.started; await jupyterapp.restored; }")
        page.wait_for_function(KERNEL_IS_CONNECTED)
        for command in ("application:toggle-left-area", "notebook:run-all-cells"):
            page.evaluate(f"() => {{ jupyterapp.commands.execute('{command}'); }}")
        page.get_by_text("Run 1:").first.wait_for(timeout=60_000)
        page.wait_for_timeout(3000)  # its last bars are drawn
        return page.screenshot()


def save(png: bytes) -> None:
    """Few colours make a small file."""
    image = Image.open(BytesIO(png)).convert("RGB")
    image = image.crop((0, 0, image.width, round(SHOWN * SCALE)))
    image.quantize(128, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
