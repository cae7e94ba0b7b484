"""The words of the browser: the front end fills in numbers and names, and writes no sentence.

They travel in the front end itself, as the module ``words.js`` that ``bundle`` adds to it. What
depends on a trace as a whole is written by ``data``.
"""

import json

from pipelab.words import BYTE_UNITS, KINDS, REASONS, TIME_UNITS

PHRASES = {
    # what a rank does at a time, after its name
    "doing": "{token}: {kind}, microbatch {microbatch}",
    "doing_stage": "{token}: {kind}",
    "finished": "has finished",
    "not_begun": "has not begun",
    "waits": "waits",
    "waits_for": "waits for {token} of rank {rank}",
    "about_to_start": "is about to start {token}",
    "all_computed": "has computed all its actions",
    # one action, line by line
    "action": "{token} on rank {rank}: {kind} of microbatch {microbatch}, stage {stage}",
    "action_stage": "{token} on rank {rank}: {kind}, stage {stage}",
    "times": "{duration}, from {start} to {end}",
    "bytes": "{bytes} {what}",
    "to_rank": "to rank {rank}",
    "from_rank": "from rank {rank}",
    "idle_before": "idle for {duration} before it: {idle}",
    "later": "starts {time} later than {other}",
    "earlier": "starts {time} earlier than {other}",
    "longer": "takes {time} more than {other}",
    "shorter": "takes {time} less than {other}",
    "than_predicted": "predicted",
    "than_recorded": "in the other run",
    # one piece of idle time, and memory
    "idle": "rank {rank} is idle for {duration}, {percent} % of the step ({phase})",
    "idle_why": "it {idle}",
    "holds": "rank {rank} holds {held} at {time}, at most {peak}",
    "activations": "{count} activations",
    "kept": "{count} kept",
    "budget": "budget: {bytes}",
    # around the picture
    "rank": "rank {rank}",
    "memory": "memory",
    "ghost_predicted": "predicted",
    "ghost_recorded": "other",
    "rank_does": "rank {rank} {does}",
    "idle_share": "{share} idle",
    "following": "following microbatch {microbatch}: {count} messages between ranks, "
    "from {start} to {end}",
    "at": "At {time}: {ranks}.",
    "end": "End of the step, {time}.",
    "real_time": "real time",
    "faster": "{factor} times as fast",
    "slower": "1/{factor} of real time",
    # the legend
    "idle_because": "idle: {reason}",
    "or": "{one}, or {other}",
    "lighter": "lighter: a later stage of the rank",
    "dashed": "dashed: memory budget, {bytes}",
    # the table of all actions
    "all_actions": "all {count} actions",
    "first_actions": "the first {shown} of {count} actions",
    # the chart of all runs
    "theory": "line: {name} in theory, {fixed}",
    "prediction_mark": "×: your prediction",
    "percent": "{value} %",
    "microbatches_axis": "microbatches m",
    "ranks_axis": "ranks p",
    "chart_m": "The bubble of {count} runs against microbatches",
    "chart_p": "The bubble of {count} runs against ranks",
}

# Of idle time, where its box is too narrow for the sentence: the longest first, {token} is awaited.
_WAITS = ["waits for {token}", "waits: {token}"]
IDLE_LABELS = {"waiting": _WAITS, "imbalance": _WAITS, "message": ["message with {token}"]}


def words_module() -> str:
    """The source of ``words.js``."""
    words = {
        "phrases": PHRASES,
        "kinds": {kind: {"name": own.name, "bytes": own.bytes} for kind, own in KINDS.items()},
        "reasons": {reason: own.legend for reason, own in REASONS.items()},
        "idleLabels": {reason: IDLE_LABELS.get(reason, []) for reason in REASONS},
        "timeUnits": TIME_UNITS,
        "byteUnits": BYTE_UNITS,
    }
    return f"export const WORDS = {json.dumps(words, ensure_ascii=False)};\n"
