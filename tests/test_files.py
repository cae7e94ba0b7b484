"""Files are replaced when the new one is complete, and not before."""

import os
import stat

import pytest

from pipelab.engine.driver import checkpoint
from pipelab.files import check_plain, replace_text, replacing
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate
from pipelab.widgets import Timeline

TRACE = simulate(gpipe(2, 2), Cost(forward=1.0, backward_input=1.0, backward_weight=1.0))


def names(folder):
    return sorted(os.listdir(folder))


def test_a_block_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = replace_text(tmp_path / "file.txt", "old ä")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half")
        file.flush()
        raise KeyError
    assert path.read_text("utf-8") == "old ä" and names(tmp_path) == ["file.txt"]
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text("utf-8") == "old ä"  # until the block ends
    assert path.read_text("utf-8") == "new" and names(tmp_path) == ["file.txt"]


WRITERS = {
    "a text": lambda folder: replace_text(folder / "file", "text"),
    "a trace": lambda folder: TRACE.save(folder / "trace.json"),
    "a trace for Perfetto": lambda folder: TRACE.to_chrome(folder / "chrome.json"),
    "a page": lambda folder: Timeline(TRACE).to_html(folder / "page.html"),
    "a picture": lambda folder: Timeline(TRACE).save(folder / "page.png"),
    "a checkpoint": lambda folder: checkpoint.save(folder, checkpoint.Checkpoint({}, {}, 0)),
}


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
@pytest.mark.parametrize("what", WRITERS)
def test_others_may_read_what_they_may_read_of_this_user(tmp_path, what, mask):
    # what tempfile makes, and what a checkpoint once was, nobody else can read
    before = os.umask(mask)
    try:
        path = WRITERS[what](tmp_path)
        (tmp_path / "plain").write_text("")
    finally:
        os.umask(before)
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode == 0o666 & ~mask


def test_a_link_is_replaced_not_followed(tmp_path):
    target = replace_text(tmp_path / "target", "theirs")
    (tmp_path / "link").symlink_to(target)
    replace_text(tmp_path / "link", "ours")
    assert target.read_text() == "theirs" and not (tmp_path / "link").is_symlink()


def test_what_is_no_plain_file_or_too_large_is_refused(tmp_path):
    check_plain(replace_text(tmp_path / "file", "12345"), 5)
    with pytest.raises(ValueError, match="it has 5 bytes, at most 4 are read"):
        check_plain(tmp_path / "file", 4)
    with pytest.raises(ValueError, match="not a plain file"):
        check_plain(tmp_path, 4)
    with pytest.raises(FileNotFoundError):
        check_plain(tmp_path / "none", 4)
