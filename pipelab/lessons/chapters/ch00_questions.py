"""What the first steps ask before their run. Needs no torch; there are no exercises."""

from pipelab.lessons.questions import Estimate, Question

QUESTIONS: dict[str, Question] = {
    "00": Estimate(
        "4 ranks, 8 microbatches, 1F1B; each rank has 240 ms of work: how long is one step?",
        "A rank works for 240 ms. Before its first action and after its last, or in between, it "
        "waits while others work: three times (10 + 20) ms, 90 ms in all.",
        {
            240.0: "That would need all four ranks busy from the first moment to the last; but "
            "rank 3 cannot begin before microbatch 0 has reached it.",
            960.0: "That is one rank after the other. They work at the same time, on different "
            "microbatches.",
        },
        tolerance=0.1,
        unit=" ms",
        expected=330.0,
        over=lambda milliseconds: milliseconds / 1000 or None,
    ),
}
