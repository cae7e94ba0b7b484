"""``pipelab doctor``: what this machine can do, what is wrong, and what to do about it.

The checks stand in ``machine``, and here the last one: ranks are launched.
"""

import argparse
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from pipelab.cli import console, machine
from pipelab.cli.console import CommandError, say, width
from pipelab.cli.machine import Finding
from pipelab.errors import PipelabError
from pipelab.words import number, time_text

MICROBATCHES = 8  # of the steps that are tried
_NAME = 12  # columns

Check = Callable[[], Iterator[Finding]]

_fill = partial(textwrap.fill, break_long_words=False, break_on_hyphens=False)  # to be copied


def doctor(arguments: argparse.Namespace) -> int:
    """Look at everything; the exit code is 1 if something is wrong, else 0."""
    jupyter = (
        machine.front_ends,
        machine.jupyter_settings,
        machine.kernel,
        machine.jupyter_command,
    )
    found = run(machine.versions, machine.cores, machine.memory)
    try:
        console.import_engine()
    except CommandError as error:
        found.append(Finding("FAIL", "torch", str(error)))
        show(found[-1])
        found += run(*jupyter)
    else:
        since = time.monotonic()  # the fork server starts now, and loads torch meanwhile
        found += run(machine.gpus, *jupyter)
        first, later = "the first launch starts the fork server", "as every later launch"
        found += run(lambda: launches(4, since, first))
        found += run(lambda: launches(2, time.monotonic(), later))
    return _conclusion(found)


def _conclusion(found: list[Finding]) -> int:
    count = Counter(finding.level for finding in found)
    if count["FAIL"]:
        say(
            f"\n{number(count['FAIL'], 'thing')} to repair: do what the arrows say, then ask again."
        )
        return 1
    warned = f", with {number(count['warn'], 'warning')}" if count["warn"] else ""
    say(f"\nAll is well{warned}. Next: pipelab demo, then pipelab lab.")
    return 0


def run(*checks: Check) -> list[Finding]:
    """All findings of some checks, each shown as it comes; a check that breaks is one too."""
    findings = []
    for check in checks:
        try:
            for finding in check():
                show(finding)
                findings.append(finding)
        except Exception as error:  # the doctor looks at broken installations: anything is raised
            text = f"{type(error).__name__}: {error}"
            name = getattr(check, "__name__", "check").strip("<>")
            findings.append(Finding("FAIL", name, text, "repair this, then ask again"))
            show(findings[-1])
    return findings


def show(finding: Finding) -> None:
    """Level, name, text; the remedy on the lines below."""
    head = f"{finding.level:<5} {finding.name:<{_NAME}} "
    indent = " " * len(head)
    first, *rest = finding.text.splitlines() or [""]
    lines = [(first, head, indent), *((line, indent, indent) for line in rest)]
    if finding.remedy:
        lines.append((finding.remedy, indent + "-> ", indent + "   "))
    for text, before, below in lines:
        say(_fill(text, width(), initial_indent=before, subsequent_indent=below))


def launches(num_ranks: int, since: float, about: str) -> Iterator[Finding]:
    """Launch, take a first step and some more.

    Args:
        since: when the launch began, on the monotonic clock; a program's first one begins with
            the start of its fork server.
        about: what the launch's time includes.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from pipelab.engine import Pipeline
    from pipelab.models import mlp
    from pipelab.schedules import one_f_one_b

    schedule = one_f_one_b(num_ranks, MICROBATCHES)
    inputs, targets = torch.randn(32, 16), torch.randint(10, (32,))
    optimizer = partial(torch.optim.SGD, lr=0.1)
    name = number(num_ranks, "rank")
    try:
        with Pipeline(mlp(), schedule, loss=cross_entropy, optimizer=optimizer) as pipeline:
            up = time.monotonic() - since
            times = [_seconds(lambda: pipeline.step(inputs, targets)) for _ in range(10)]
    except PipelabError as error:
        remedy = "look for what stops processes here: memory, limits, or a sandbox"
        yield Finding("FAIL", name, str(error), remedy)
        return
    first, warm = times[0], sorted(times[1:])[len(times) // 2]
    text = f"up after {time_text(up)} ({about}); a tiny step of {MICROBATCHES} microbatches takes "
    yield Finding("ok", name, f"{text}{time_text(first)} at first, then {time_text(warm)}")


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start
