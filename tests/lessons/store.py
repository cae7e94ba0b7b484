"""Run all lessons and store their outputs: ``python -m tests.lessons.store``; some: ``03 05``.

Each is generated from its teacher's notebook (00 has none), run once from the top by a learner who
has no progress yet, and stored with its outputs, without widget state and times. What a cell gives
that is tagged as the answer to a prediction is stored elsewhere, as text, in ``hidden``: the
tests read it there. Do it on a quiet machine: they compare the recorded times with the text.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbclient
from nbformat import NotebookNode

from pipelab.files import replace_text
from pipelab.lessons.contents import GLOSSARY, glossary, linked
from pipelab.lessons.edition import NAMES, course_of, learner, read, write
from tests.lessons.hidden_outputs import hide_answers

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def store(path: Path) -> None:
    """Generate, run and write one lesson. Nothing is written if a cell fails."""
    source = NOTEBOOKS / "teacher" / path.name
    notebook = learner(read(source)) if source.exists() else read(path)
    linked(notebook, path.name[:2], course_of(NOTEBOOKS / "teacher"))
    execute(notebook)
    hide_answers(notebook, path.name[:2])
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
    replace_text(NOTEBOOKS / GLOSSARY, glossary(course_of(NOTEBOOKS / "teacher")))


if __name__ == "__main__":
    main(sys.argv[1:])
