"""What lesson 7, 1F1B and activation memory, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "07": Choose(
        "4 ranks, 8 microbatches, 1F1B: at the most, rank 0 keeps the activations of ...",
        {
            "a": Choice(
                "8 microbatches, as under GPipe",
                "That is so where the first backward comes after the last forward. Here rank 0 "
                "has microbatch 0 back before it begins the forward of microbatch 4.",
            ),
            "b": Choice(
                "4 microbatches",
                "A microbatch is on its way down and back while rank 0 begins 4, one for each "
                "rank. Then each forward waits for a backward, which frees as much.",
            ),
            "c": Choice(
                "1 microbatch: each forward is followed by its backward",
                "That is so on the *last* rank. On rank 0 the backward of microbatch 0 can only "
                "come when three other ranks have had their turn, there and back.",
            ),
        },
        settle=lambda x: "a" if x > 6 else "b" if x > 2 else "c",
        unit=" microbatches",
    ),
    "07.bubble": Choose(
        "And compared with GPipe, 1F1B's bubble is ...",
        {
            "a": Choice(
                "smaller: the backwards begin earlier",
                "They do begin earlier, and the forwards end later by as much.",
            ),
            "b": Choice(
                "the same",
                "Both fill the ranks one after another with forwards and empty them one after "
                "another with backwards: (p - 1)(F + B), whatever the order in between.",
            ),
            "c": Choice(
                "larger: a rank has to wait for each backward",
                "With free messages it never waits in the middle of the step: when a forward ends, "
                "the next backward is there. With slow messages it does, as lesson 9 shows.",
            ),
        },
        settle=lambda x: "a" if x < 0.85 else "b" if x < 1.18 else "c",
        unit=" times GPipe's bubble",
        expected=1.0,
    ),
    "07.checkpoint": Choose(
        "B takes twice as long as F. If each stage keeps only its input and runs its forward "
        "again before each backward, a step has ...",
        {
            "a": Choice(
                "as much work: what was computed is only dropped",
                "What was dropped has to be there for the backward: each forward runs twice.",
            ),
            "b": Choice(
                "about a third more work",
                "F + B is three times F, and another F makes four: 4/3.",
            ),
            "c": Choice(
                "twice as much work",
                "Only the forward runs twice. It is a third of the work, B is two thirds.",
            ),
        },
        settle=lambda x: "a" if x < 1.15 else "b" if x < 1.65 else "c",
        unit=" times the work",
        expected=4 / 3,
    ),
}
