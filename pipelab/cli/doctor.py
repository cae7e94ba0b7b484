"""``pipelab doctor``: what this machine can do, what is wrong, and what to do about it."""

import time
from collections import Counter

from pipelab.cli import jupyter, machine, ranks, signals
from pipelab.cli.findings import Finding, run, show
from pipelab.cli.terminal import CommandError, say
from pipelab.words import number


def doctor() -> int:
    """Look at everything; the exit code is 1 if something is wrong, else 0."""
    found = [
        *run("versions", machine.versions),
        *run("cores", machine.cores),
        *run("memory", machine.memory),
    ]
    try:
        signals.import_engine()
    except CommandError as error:
        found.append(Finding("FAIL", "torch", str(error)))
        show(found[-1])
        found += _jupyter()
    else:
        since = time.monotonic()  # the fork server starts now, and loads torch meanwhile
        found += run("GPUs", machine.gpus) + _jupyter()
        first, later = "the first launch starts the fork server", "as every later launch"
        found += run("4 ranks", lambda: ranks.launches(4, since, first))
        found += run("2 ranks", lambda: ranks.launches(2, time.monotonic(), later))
    return _verdict(found)


def _jupyter() -> list[Finding]:
    checks = {
        "widgets": jupyter.front_ends,
        "setting": jupyter.settings,
        "kernel": jupyter.kernel,
        "command": jupyter.command,
    }
    return [finding for name, check in checks.items() for finding in run(name, check)]


def _verdict(found: list[Finding]) -> int:
    count = Counter(finding.level for finding in found)
    if count["FAIL"]:
        say(f"\n{number(count['FAIL'], 'thing')} to mend: do what the arrows say, then ask again.")
        return 1
    warned = f", with {number(count['warn'], 'warning')}" if count["warn"] else ""
    say(f"\nAll is well{warned}. Next: pipelab demo, then pipelab lab.")
    return 0
