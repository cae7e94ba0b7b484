"""Run all lessons and store their outputs: ``python -m tests.lessons.store``; some: ``03 05``.

Each is generated from its teacher's notebook (00 has none), run once from the top by a learner who
has no progress yet, and stored with its outputs, without widget state and times; a cell that is
tagged as the answer to a prediction is stored without. Do it on a quiet machine: the tests compare
the recorded times with the text.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbclient
from nbformat import NotebookNode

from pipelab.lessons.edition import NAMES, learner, read, write

ANSWERS = "answers-a-prediction"  # the tag of a cell whose output nobody should see before
NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def store(path: Path) -> None:
    """Generate, run and write one lesson. Nothing is written if a cell fails."""
    source = NOTEBOOKS / "teacher" / path.name
    notebook = learner(read(source)) if source.exists() else read(path)
    execute(notebook)
    for cell in notebook.cells:
        if ANSWERS in cell.metadata.get("tags", []):
            cell.outputs = []
    if path.exists():
        notebook.metadata = read(path).metadata  # not the version of this machine's Python
    write(notebook, path)


def execute(notebook: NotebookNode) -> None:
    """Run a notebook from the top, with outputs as a learner's first run gives them."""
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    with tempfile.TemporaryDirectory(prefix="pipelab-store-") as home:
        client.execute(env=os.environ | {"PIPELAB_HOME": home, "PIPELAB_NOTICES": "0"})


def main(numbers: list[str]) -> None:
    """Store the lessons with these numbers, or all."""
    shipped = {
        path.name for folder in (NOTEBOOKS, NOTEBOOKS / "teacher") for path in folder.glob(NAMES)
    }
    for name in sorted(shipped):
        if not numbers or name[:2] in numbers:
            store(NOTEBOOKS / name)
            print(f"stored notebooks/{name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
