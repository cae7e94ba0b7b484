"""What lesson 5, the gradient, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "05": Choose(
        "4 equal microbatches, the mean loss of each, their gradients added up. Compared with "
        "the gradient of the mean over the whole batch it is ...",
        {
            "a": Choice(
                "equal",
                "It would be, if each microbatch's loss were a *sum*. Means do not add up.",
            ),
            "b": Choice(
                "4 times as large",
                "Each of the 4 means divides by its own quarter of the rows, so each row "
                "counts 4 times too much.",
            ),
            "c": Choice(
                "a quarter of it",
                "It is the opposite: dividing by *fewer* rows makes each single row count "
                "more in its mean, not less.",
            ),
        },
        settle=lambda x: "b" if x > 2 else "c" if x < 0.5 else "a",
        unit=" times the gradient",
    ),
    "05.adam": Choose(
        "A gradient that is 4 times too large, and a right one; both train with Adam. The two "
        "loss curves ...",
        {
            "a": Choice(
                "differ so much that you notice at once",
                "With SGD you would. With Adam you would not.",
            ),
            "b": Choice(
                "look alike",
                "Adam divides each gradient by its own usual size, so a constant factor drops "
                "out. A falling loss proves nothing about a gradient.",
            ),
            "c": Choice(
                "differ, since the wrong one does not fall at all",
                "Even a wrong gradient usually points downhill, so the loss falls.",
            ),
        },
        settle=lambda x: "b" if x < 0.05 else "a",
        source="The largest difference between the curves",
    ),
}
