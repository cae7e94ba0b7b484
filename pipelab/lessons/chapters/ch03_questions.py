"""What lesson 3, waiting, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Estimate, Question

QUESTIONS: dict[str, Question] = {
    "03": Estimate(
        "A model split over 4 ranks, the batch in one piece: what share of the time does each "
        "rank compute?",
        "One rank computes while the other three wait, so each computes for a quarter of the "
        "time, or a little less because of the messages.",
        {
            1.0: "That would be four ranks computing all the time; but rank 1 needs what rank "
            "0 makes, and rank 0 cannot go back before rank 1 has.",
            0.75: "That is the share in which it waits.",
            0.5: "Half would mean that two ranks compute at any moment. Which two could that "
            "be, with a single batch in the pipeline?",
        },
        most=1.0,
        expected=0.25,
        over=lambda share: {(4, 1): 1 - share},
    ),
    "03.speed": Choose(
        "The same model on one rank, and split over four: how much faster is a step?",
        {
            "a": Choice(
                "about four times as fast",
                "Each rank has a quarter of the work, that is true; but they do their quarters "
                "one after the other.",
            ),
            "b": Choice(
                "somewhat faster",
                "Nothing runs at the same time as anything else, so there is nothing to gain.",
            ),
            "c": Choice(
                "not at all: as fast, or a little slower",
                "The same work in the same order, only on four ranks, with messages in between.",
            ),
        },
        settle=lambda x: "a" if x > 2.5 else "b" if x > 1.15 else "c",
        unit=" times as fast",
        expected=10 / 11,
    ),
}
