"""What lesson 4, microbatches, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Estimates, Question

SWEEP = (1, 2, 4, 8, 16)  # microbatches


def _drawn(shares: tuple[float, ...]) -> dict[tuple[int, int], float]:
    """Predicted shares by ranks and microbatches; what is no share cannot be drawn."""
    return {(4, m): share for m, share in zip(SWEEP, shares, strict=True) if share <= 1}


QUESTIONS: dict[str, Question] = {
    "04": Estimates(
        "4 ranks, the batch cut into m microbatches that follow each other at once: what is "
        "the bubble fraction?",
        tuple(f"m = {m}" for m in SWEEP),
        "In units of F + B each rank works for m of m + 3, so the bubble is 3/(m + 3): it does "
        "not halve when m doubles.",
        {
            (
                0.75,
                0.75,
                0.75,
                0.75,
                0.75,
            ): "That is the bubble of lesson 3, with one microbatch in the pipeline at a "
            "time, however many there are.",
            (0.75, 0.375, 0.1875, 0.09375, 0.046875): "Half of it each time? The corners do "
            "not become smaller; the work between them becomes longer.",
            (0.75, 0.0, 0.0, 0.0, 0.0): "The corners at both ends stay, however many "
            "microbatches there are.",
            (3.0, 1.5, 0.75, 0.375, 0.1875): "That is idle time over *busy* time, the bubble "
            "overhead, which can exceed 1; the fraction is idle time over all time.",
        },
        most=4.0,
        expected=tuple(3 / (m + 3) for m in SWEEP),
        over=_drawn,
    ),
    "04.more": Choose(
        "The same batch in 64 microbatches instead of 4, as fast as this machine can: the step "
        "takes ...",
        {
            "a": Choice(
                "less time, since the bubble is smaller",
                "The bubble's share on paper is indeed smaller; the work itself has grown.",
            ),
            "b": Choice(
                "about the same time: it is the same work",
                "The same rows, but each microbatch also pays for its messages, and for the "
                "start of each small computation.",
            ),
            "c": Choice(
                "much more time",
                "What an action and a message cost however small they are is now paid 64 "
                "times, on every rank.",
            ),
        },
        settle=lambda x: "c" if x > 1.3 else "a" if x < 0.8 else "b",
        unit=" times as long",
    ),
}
