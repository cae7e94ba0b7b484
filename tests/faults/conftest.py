"""For the tests of what goes wrong."""

import tempfile

import pytest

collect_ignore = ["script.py"]  # runs when it is imported


@pytest.fixture(autouse=True)
def own_tempdir(tmp_path_factory, monkeypatch):
    """Folders of others that use pipelab on this machine are not counted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
