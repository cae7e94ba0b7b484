"""Ranks that torchrun forks: what they import is loaded once, and they end with who asked."""

import subprocess
import threading
import time

import pytest

from pipelab.engine.torchrun import private_run
from pipelab.engine.torchrun.private_run import run_privately
from pipelab.errors import LaunchError
from tests.faults.leftovers import gone

SCRIPT = """
import os, sys, time
from pathlib import Path

words = f"{os.getpid()} {os.getppid()} {'colorsys' in sys.modules} {__name__} {sys.argv[2]}"
part = Path(sys.argv[1], f"part-{os.environ['RANK']}")
part.write_text(words)
part.rename(part.with_name(f"rank-{os.environ['RANK']}"))
time.sleep(600)
"""


def test_ranks_are_forked_with_their_modules_and_end_with_who_asked(tmp_path, monkeypatch):
    script, started = tmp_path / "script.py", []
    script.write_text(SCRIPT)

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def run():
        with pytest.raises(LaunchError, match="ended with code 1"):
            run_privately(script, 2, tmp_path, ["word"], timeout=300.0, loaded=("colorsys",))
        started.append("refused")

    monkeypatch.setattr(private_run.subprocess, "Popen", Noted)
    thread = threading.Thread(target=run)
    thread.start()
    files = [tmp_path / f"rank-{rank}" for rank in range(2)]
    while thread.is_alive() and not all(file.exists() for file in files):
        time.sleep(0.05)
    torchrun = started[0]
    try:
        ranks = [file.read_text().split() for file in files]
        pids = [int(words.pop(0)) for words in ranks]
        assert ranks == [[f"{torchrun.pid}", "True", "__main__", "word"]] * 2
    finally:
        torchrun.stdin.close()  # as the end of this process does
    assert gone(pids, 30.0)
    thread.join()
    assert started == [torchrun, "refused"]
