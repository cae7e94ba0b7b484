"""What answers a prediction: in no stored lesson, and yet compared by the tests."""

import json
from pathlib import Path

from nbformat import NotebookNode, from_dict

ANSWERS = "answers-a-prediction"  # the tag of a cell whose output nobody should see before
FOLDER = Path(__file__).parent / "hidden"


def hide_answers(notebook: NotebookNode, number: str) -> None:
    """Move what answers a prediction from a notebook that was run to a file, as text by cell."""
    outputs: dict[str, list[NotebookNode]] = {}
    for cell in notebook.cells:
        if ANSWERS in cell.metadata.get("tags", []):
            outputs[cell.id] = [_text_of(output) for output in cell.outputs]
            cell.outputs = []
    file = FOLDER / f"{number}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(outputs, indent=1, ensure_ascii=False) + "\n", "utf-8")


def hidden(number: str, cell: str) -> list[NotebookNode]:
    """The outputs of a cell that a lesson is stored without."""
    file = FOLDER / f"{number}.json"
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return [from_dict(output) for output in found.get(cell, [])]


def _text_of(output: NotebookNode) -> NotebookNode:
    """An output without its pictures."""
    if "data" in output:
        output = NotebookNode(output)
        output.data = {"text/plain": output.data["text/plain"]}
    return output
