"""A stage moves as a whole: its weights are on one rank, and so are all its tokens.

rank 0  0F0 0F1 0B0 0B1            rank 0  0F0 1F0 0F1 1F1 1B0 0B0 1B1 0B1
rank 1  1F0 2F0 1F1 2F1 ...   →    rank 1  2F0 2F1 ...
"""

import re
from collections.abc import Sequence

Rows = list[list[str]]

_TOKEN = re.compile(r"(\d+)([FBIW])(\d+)")


def stage_of(token: str) -> int | None:
    """The stage of a token; None where it is none.

    >>> stage_of("2F0"), stage_of("what")
    (2, None)
    """
    match = _TOKEN.fullmatch(token)
    return int(match[1]) if match else None


def with_stage_on(rows: Sequence[Sequence[str]], stage: int | None, rank: int) -> Rows:
    """The rows with all tokens of a stage on one rank, each beside those of its neighbour stages.

    >>> with_stage_on([["0F0", "0B0"], ["1F0", "1B0"]], stage=1, rank=0)
    [['0F0', '1F0', '1B0', '0B0'], []]
    """
    tokens = [token for row in rows for token in row if stage_of(token) == stage]
    found = [[token for token in row if stage_of(token) != stage] for row in rows]
    for token in tokens:
        found[rank].insert(_place(found[rank], token), token)
    return found


def completed(rows: Sequence[Sequence[str]]) -> Rows | None:
    """The rows after one token was taken to another rank: its whole stage follows it.

    None where no single token of a stage is away from the others.
    """
    for stage in {stage_of(token) for row in rows for token in row} - {None}:
        counts = [sum(stage_of(token) == stage for token in row) for row in rows]
        if sum(map(bool, counts)) == 2 and 1 in counts and sum(counts) > 2:
            return with_stage_on(rows, stage, counts.index(1))
    return None


def _place(row: Sequence[str], token: str) -> int:
    """Where in a row a token goes: after what it needs, else before what needs it, else last."""
    match = _TOKEN.fullmatch(token)
    assert match is not None
    stage, kind, microbatch = int(match[1]), match[2], match[3]
    if kind == "W":
        return _beside(row, [f"{stage}I{microbatch}"], [])
    step = -1 if kind == "F" else 1
    kinds = "F" if kind == "F" else "BI"
    before = [f"{stage + step}{k}{microbatch}" for k in kinds]
    after = [f"{stage - step}{k}{microbatch}" for k in kinds]
    return _beside(row, before, after)


def _beside(row: Sequence[str], before: Sequence[str], after: Sequence[str]) -> int:
    for token in before:
        if token in row:
            return row.index(token) + 1
    for token in after:
        if token in row:
            return row.index(token)
    return len(row)
