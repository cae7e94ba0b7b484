"""What a notebook shows of an error: the learner's lines and the words, not our files."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

import pipelab
from pipelab.errors import PipelabError, ScheduleError
from pipelab.schedules import gpipe

CELLS = [
    "from pipelab.schedules import gpipe\n\ndef build(p):\n    return gpipe(p, 4)",
    "build(4)\nbuild(0)",
]


def test_a_notebook_shows_the_lines_of_its_cells_and_the_words():
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(notebook, allow_errors=True, kernel_name="python3")
    client.execute()
    (error,) = notebook.cells[1].outputs[-1:]
    assert error.traceback == [
        "line 2: build(0)",
        "line 4: return gpipe(p, 4)",
        "ScheduleError: num_ranks is 0: a pipeline needs at least 1 rank",
    ]


def test_a_line_of_a_file_has_the_file_s_name():
    with pytest.raises(ScheduleError) as caught:
        gpipe(0, 4)
    (line, _) = caught.value._render_traceback_()
    assert re.fullmatch(r"test_errors\.py, line [0-9]+: gpipe\(0, 4\)", line)


def test_an_error_that_was_never_raised_has_words_alone():
    assert PipelabError("so it is")._render_traceback_() == ["PipelabError: so it is"]


def test_a_folder_that_only_begins_as_ours_does_is_the_learner_s():
    path = Path(pipelab.__file__).parent.with_name("pipelab_mine") / "mine.py"
    code = compile("from pipelab.schedules import gpipe\ngpipe(0, 4)", str(path), "exec")
    with pytest.raises(ScheduleError) as caught:
        exec(code)
    assert "line 2: " in caught.value._render_traceback_()[1]
