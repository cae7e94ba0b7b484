"""``pipelab site``: the course as pages for any static host, or for a disk."""

import argparse
import sys
import time
from pathlib import Path

from pipelab.cli.console import CommandError, import_engine, say
from pipelab.cli.course import home
from pipelab.words import number, time_text


def site(arguments: argparse.Namespace) -> None:
    """Build it, and say where it is. Raises PipelabError if it is not whole."""
    import_engine()
    from pipelab.site.build import build, missing

    if lacking := missing():
        raise CommandError(
            f"{', '.join(lacking)} missing from this Python: "
            f"{sys.executable} -m pip install 'pipelab-course[site]'"
        )
    out = Path(arguments.folder)
    begin = time.perf_counter()
    runtime = Path(arguments.pyodide) if arguments.pyodide else None
    built = build(home(), out, playground=not arguments.no_playground, pyodide=runtime)
    left_out = "; the playground was left out" if arguments.no_playground else ""
    took = time_text(time.perf_counter() - begin)
    say(f"{number(built.pages, 'page')} in {took}; {number(built.timelines, 'timeline')} of "
        f"lessons play{left_out}. Open {out.absolute() / 'index.html'}")  # fmt: skip
