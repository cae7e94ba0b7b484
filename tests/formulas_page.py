"""The page ``notebooks/formulas.md``: formulas beside what the simulator and real ranks show.

python tests/formulas_page.py     records on real ranks, a few minutes, and writes the page again;
                                  tests/cli/test_formula_table.py compares all but what was recorded
"""

import contextlib
import io
import re
import textwrap
from pathlib import Path

from pipelab.cli.main import main

PAGE = Path(__file__).parent.parent / "notebooks" / "formulas.md"
HEAD = """# Formulas, and when they hold

What papers say of their schedules, beside what happens: the simulator's figure, exact, and that of
four real ranks, whose actions are paced to the same costs (in the tables one unit is 20 ms). A
formula without its condition misleads; where two papers differ, so do their conditions. This page
is written by `python tests/formulas_page.py`; for other sizes and costs, run `pipelab formulas`:

```sh
.venv/bin/pipelab formulas -p 4 -m 8 --forward 1 --backward-input 1.2 --backward-weight 0.8
```

All times are for a rank's whole slice of the model: of its two stages in a V, each takes half. The
papers of the zero bubble schedules write B for our I; here B = I + W everywhere.
"""
PARTS = (
    (
        "F = I = W",
        "The case that papers draw. All formulas hold. What real ranks show above them is the way "
        "of messages, and whatever else this machine did.",
        ["-p 4 -m 8"],
    ),
    (
        "I longer than F longer than W, as in a transformer",
        "GPipe, 1F1B, the looped ones, ZB-H1 and ZB-H2 keep theirs. What is built on F = I = W "
        "does not: ZB-V's zero is 1.2, V-Min has no slack and loses most.",
        ["-p 4 -m 8 --backward-input 1.2 --backward-weight 0.8"],
    ),
    (
        "Messages that take time",
        "GPipe pays a hop once per rank on the way there and once back, 1F1B in its steady state "
        "too: equal on paper, different in practice.",
        ["-p 4 -m 8 --latency 0.1"],
    ),
    (
        "Which B is it in DualPipe's formula?",
        "DeepSeek-V3's report gives (p−1)(F&B + B − 3W) and leaves open whether B is the whole "
        "backward. Two runs answer. With F = I = W and F&B = F + B every rank is idle for 6 units "
        "of one stage: 3 · (3 + 2 − 3). So B is I + W; with B = I it would be 3. With I longer "
        "than W, ranks are idle for 7.2, and the formula says 7.8: it holds for F = I = W only. "
        "(One stage's F is 1 below, a rank's slice has two.)",
        [
            "dual_pipe_v -p 4 -m 10 --forward 2",
            "dual_pipe_v -p 4 -m 10 --forward 2 --backward-input 2.4 --backward-weight 1.6 "
            "--overlapped 6",
            "dual_pipe_v -p 4 -m 10 --forward 2 --overlapped 4",
        ],
    ),
)


def table(line: str) -> str:
    """What ``pipelab formulas --markdown`` prints for these arguments."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert main(["formulas", *line.split(), "--markdown"]) == 0
    return output.getvalue().strip()


def page(more: str = "") -> str:
    """The whole page; ``more`` arguments for each table."""
    parts = [HEAD]
    for title, text, lines in PARTS:
        tables = "\n\n".join(table(f"{line} {more}") for line in lines)
        parts.append(f"## {title}\n\n{textwrap.fill(text, 98)}\n\n{tables}\n")
    return "\n".join(parts)


def without_recorded(text: str) -> str:
    """The page with the column of what was recorded left empty."""
    return re.sub(r"(?m)^(\|(?:[^|]*\|){6})[^|]*(\|[^|]*\|)$", r"\1  \2", text)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
