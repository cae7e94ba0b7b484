"""A diagnosis on one screen: what was recorded, why it is slow, and what would change that."""

import textwrap
from collections.abc import Iterator, Sequence

from pipelab.analysis.diagnosis import Diagnosis, Share
from pipelab.analysis.slowdown import Slowdown
from pipelab.analysis.slowest import Slow
from pipelab.analysis.what_if import WhatIf
from pipelab.words import KINDS, REASONS, change, number, percent, table_text, time_text

_INDENT = 11
_PATH_SHOWN = 3
_LEAST = 0.0005  # shares of idle time below this are left out
# of another machine's trace it is not known what held the rank up
_WORDS = {name: words.name for name, words in REASONS.items()} | {"overhead": "between two actions"}
# what may be wrong with a job, the most exact first: names of what-ifs
_CAUSES = (
    "rank_as_elsewhere", "stage", "rank", "equal_microbatches", "no_pauses",
    "free_messages", "replica_as_elsewhere",
)  # fmt: skip
_WORTH = 0.02  # a change that saves less is not worth a word: steps differ by more
_NEARLY = 0.9
_STANDS_OUT = 1.05  # times the others
_TALLEST = 6  # replicas that are named one by one


def screen(found: Diagnosis, width: int = 100) -> str:
    """The diagnosis in paragraphs of at most ``width`` columns, what-ifs in a table, and notes."""
    lines = [line for head, text in _facts(found) for line in _paragraph(head, text, width)]
    if found.what_ifs:
        lines += _table(found)
    if found.fit:
        lines += _paragraph("fit", _fit(found), width)
    for note in found.notes:
        lines += _paragraph("note", note, width)
    return "\n".join(lines)


def answer_lines(found: Diagnosis, width: int = 100) -> str:
    """The screen's first paragraph alone."""
    return "\n".join(_paragraph("answer", answer(found), width))


def _facts(found: Diagnosis) -> Iterator[tuple[str, str]]:
    yield "answer", answer(found)
    yield "schedule", _schedule(found)
    yield "step", _steps(found)
    yield "bubble", _bubble(found)
    yield "idle", _idle(found)
    yield "slowest", _slowest(found)
    if found.slowdown:
        yield "slowdown", _slowdown(found.slowdown)
    if found.path:
        yield "path", path_sentence(found)


def answer(found: Diagnosis) -> str:
    """Why the bubble is there and what would help most, in two or three sentences."""
    texts = [f"ranks are idle for {percent(found.bubble_fraction, 1)} of the time{_worst(found)}"]
    if found.formula:
        texts[0] += f"; the schedule alone would leave {percent(found.formula[1], 1)}"
    by_name = {what.name: what for what in found.what_ifs}
    times = {name: by_name[name].duration for name in _CAUSES if name in by_name}
    least = min(times.values(), default=0.0)
    best = (1 - _WORTH) * found.simulated
    if times and least < best:  # of causes that cost nearly the same, the most exact
        enough = found.simulated - _NEARLY * (found.simulated - least)
        cause = next(name for name, seconds in times.items() if seconds <= enough)
        texts.append(f"what costs most: with {_gain(by_name[cause], found)}")
        best = times[cause]
    if (everywhere := _equal_lengths(found, best)) is not None:
        texts[1:] = [everywhere]
    elif not texts[1:] and times:
        texts.append("no rank, stage, microbatch, message or pause costs much by itself")
    others = [what for what in found.what_ifs if what.name.startswith("schedule:")]
    if others and others[0].duration < best:
        texts.append(f"another schedule: with {_gain(others[0], found)}")
    return ". ".join(text[0].upper() + text[1:] for text in texts) + "."


def _equal_lengths(found: Diagnosis, best: float) -> str | None:
    """What costs most where it is the microbatches' lengths, in sum unequal among replicas."""
    slow = found.slowdown
    if slow is None or found.num_replicas == 1 or not found.simulated:
        return None
    ratio = slow.equal_lengths / slow.seconds
    if ratio > best / found.simulated - _WORTH:
        return None
    return (
        f"what costs most: all replicas wait for the one that has most to do in a step; with "
        f"microbatches of equal length in all of them a step takes "
        f"{time_text(slow.equal_lengths)} in place of {time_text(slow.seconds)} ({change(ratio)})"
    )


def _worst(found: Diagnosis) -> str:
    """The replica that takes longest, if its bubble is another one than most replicas'."""
    slow = max(found.replicas, key=lambda row: row.duration)
    if abs(slow.bubble_fraction - found.bubble_fraction) < _WORTH:
        return ""
    return f", {percent(slow.bubble_fraction, 1)} in replica {slow.number}, which takes longest"


def _gain(what: WhatIf, found: Diagnosis) -> str:
    whole = change(what.duration / found.simulated)
    where = _of_replica(found, found.trace.setting.replica)
    times = f"{time_text(what.duration)} in place of {time_text(found.simulated)}"
    return f"{what.words}, a step{where} takes {times} ({whole})"


def _schedule(found: Diagnosis) -> str:
    parts = [
        f"{found.order}: {number(found.ranks, 'rank')}",
        number(found.microbatches, "microbatch"),
        f"{number(found.stages_per_rank, 'stage')} a rank",
    ]
    read = f"{number(found.num_replicas, 'replica')}, {number(found.num_steps, 'step')} read"
    return f"{', '.join(parts)}; {read}"


def _steps(found: Diagnosis) -> str:
    rows = found.replicas
    text = f"{time_text(found.duration)} (median of all)"
    if len(rows) > 1:
        slowest = time_text(found.slowest_replica)
        shown = sorted(rows, key=lambda row: -row.duration)[:_TALLEST]
        each = (
            f"replica {row.number} {time_text(row.duration)}, "
            f"bubble {percent(row.bubble_fraction, 1)}"
            for row in sorted(shown)
        )
        text += f"; {'; '.join(each)}"
        text += f"; {len(rows) - len(shown)} faster ones" if len(rows) > len(shown) else ""
        text += f"; the slowest one of each step, for which the others wait, {slowest}"
    return text


def _bubble(found: Diagnosis) -> str:
    text = f"{percent(found.bubble_fraction, 1)} recorded (median of all)"
    if found.formula:
        return f"{text}, {percent(found.formula[1], 1)} by {found.formula[0]}"
    return f"{text}; there is no formula for this order"


def _idle(found: Diagnosis) -> str:
    shares = [
        f"{percent(share, 1)} {_WORDS[reason]}"
        for reason, share in found.idle.items()
        if share > _LEAST
    ]
    return "of all rank-time: " + ", ".join(shares) if shares else "none"


def _slowest(found: Diagnosis) -> str:
    rank, stage, kind = found.slowest
    where = f"rank {rank.number}{_of_replica(found, rank.replica)}"
    texts = [
        f"{where}: {_against(rank)} in a step",
        f"stage {stage.number}: {_against(stage)}",
    ]
    if kind.kind is not None:
        name = KINDS[kind.kind].name
        texts.append(f"{kind.kind} ({name}) of stage {kind.number}: {_against(kind)}")
    if max(slow.ratio for slow in found.slowest) < _STANDS_OUT:
        texts = [f"none stands out; {texts[0]}"]
    longest = found.longest_microbatch
    return "; ".join(texts) + f"; the longest microbatch of a step: {longest:.2f} x the average"


def _slowdown(slow: Slowdown) -> str:
    text = f"S = {slow.overall:.2f} times a job whose ranks and microbatches are all alike"
    if slow.slowest_ranks is not None and slow.last_rank is not None:
        worst, last = (percent(max(0.0, x)) for x in (slow.slowest_ranks, slow.last_rank))
        text += f"; of that loss M_W = {worst} is due to the slowest 3 % of ranks, "
        text += f"M_S = {last} to the last rank"
    return f"{text} ({slow.source})"


def _of_replica(found: Diagnosis, number: int) -> str:
    return f" of replica {number}" if found.num_replicas > 1 else ""


def _against(slow: Slow) -> str:
    return f"{time_text(slow.seconds)} against {time_text(slow.others)} ({slow.ratio:.2f} x)"


def path_sentence(found: Diagnosis) -> str:
    """The critical path of the shown step in one sentence."""
    whole = sum(share.seconds for share in found.path)
    rest = [share for share in found.path if share.what in ("messages", "gaps")]
    work = [share for share in found.path if share not in rest]
    texts = [f"{share.what} ({time_text(share.seconds)})" for share in work[:_PATH_SHOWN]]
    more = sum(share.seconds for share in work[_PATH_SHOWN:])
    texts += [f"other work ({time_text(more)})"] if more else []
    texts += [_rest(share) for share in rest]
    share = sum(row.seconds for row in work[:1]) / whole if whole else 0.0
    most = f", most of it {work[0].what}" if work and share > 0.5 else ""
    step = found.trace.setting.step
    return (
        f"the critical path of step {step}, {time_text(whole)}, is made of "
        f"{', '.join(texts)}{most}: only what shortens these shortens the step"
    )


def _rest(share: Share) -> str:
    words = {"messages": "waiting for messages", "gaps": "time between two actions of a rank"}
    return f"{words[share.what]} ({time_text(share.seconds)})"


def _table(found: Diagnosis) -> list[str]:
    shown = found.trace.setting
    where = f"step {shown.step}{_of_replica(found, shown.replica)}"
    rows: list[Sequence[str]] = [
        ("what if", "step time", "change", "bubble"),
        (f"{where} as it is, simulated", time_text(found.simulated), "", ""),
    ]
    for what in _without_doubles(found.what_ifs):
        rows.append(
            (
                f"with {what.words}",
                time_text(what.duration),
                change(what.duration / found.simulated) if found.simulated else "",
                percent(what.bubble_fraction, 1),
            )
        )
    lines = table_text(rows).splitlines()
    if any(what.name.startswith("schedule:") for what in found.what_ifs):
        lines.append("Other schedules are those that hold no more activations on any rank.")
    return ["", *lines, ""]


def _without_doubles(changes: Sequence[WhatIf]) -> list[WhatIf]:
    """With one stage a rank, a rank and its stage are the same: one line for both."""
    by_name = {what.name: what for what in changes}
    rank, stage = by_name.get("rank"), by_name.get("stage")
    if rank and stage and rank[2:] == stage[2:]:
        return [what for what in changes if what is not rank]
    return [*changes]


def _fit(found: Diagnosis) -> str:
    fit = found.fit
    assert fit is not None, "called where there is one"
    text = (
        f"simulated from its own costs a step takes {fit.explained:.3f} ± {fit.spread:.3f} of the "
        f"recorded time (median of {number(fit.steps, 'step')})"
    )
    if fit.predicted is not None:
        off = percent(fit.predicted, 1)
        text += f"; later steps, predicted from the first one's costs, are {off} off"
    return text


def _paragraph(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=head.ljust(_INDENT), subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )  # fmt: skip
