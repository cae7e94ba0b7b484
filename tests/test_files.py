"""Files are replaced when the new one is complete, and not before."""

import os
import stat

import pytest

from pipelab.files import check_plain, replace_text, replacing


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


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_file_has_the_mode_that_was_asked_for(tmp_path, mode):
    with replacing(tmp_path / "file", mode):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


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
