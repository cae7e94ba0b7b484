"""Record the gallery's runs: ``python -m tests.site.record``; some: ``gpipe straggler``.

Of a few runs the one is kept that the machine's other work disturbed least, or the shortest. A run
that fails as its entry says leaves the error's text. Do it on a quiet machine.
"""

import sys
from pathlib import Path

from pipelab.errors import RankError
from pipelab.site.gallery import PREAMBLE, RECORDED, Entry, run
from pipelab.trace import Trace, least_disturbed

RUNS = 5
FOLDER = Path(__file__).parent.parent.parent / "notebooks" / "site" / "recordings"


def record(entry: Entry) -> Path:
    """Write one recording."""
    try:
        traces: list[Trace] = [run(entry, PREAMBLE) for _ in range(RUNS)]
    except RankError as error:
        path = FOLDER / f"{entry.name}.txt"
        path.write_text(f"{error}\n", "utf-8")
        return path
    return least_disturbed(traces).save(FOLDER / f"{entry.name}.json")


def main(names: list[str]) -> None:
    """Record the entries of these names, or all."""
    FOLDER.mkdir(exist_ok=True)
    for entry in RECORDED:
        if not names or entry.name in names:
            path = record(entry)
            print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
