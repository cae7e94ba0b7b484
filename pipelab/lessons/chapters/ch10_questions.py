"""What lesson 10, when it hangs, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "10": Choose(
        "Two neighbours, one send and one receive each; both send first. Messages of 1 kB, "
        "1 MB and 40 MB, through this machine's memory: they ...",
        {
            "a": Choice(
                "hang with all three: nobody receives",
                "That is so where a send waits for its receive. In memory there is room "
                "between the ranks: a message that fits is left there, and the send returns.",
            ),
            "b": Choice(
                "run with all three: messages wait until somebody takes them",
                "As long as there is room for them. A message larger than that room can only "
                "leave while the other side takes it, and the other side sends as well.",
            ),
            "c": Choice(
                "run with the small ones and hang with the large one",
                "What hides the mistake is the room between the ranks.",
            ),
        },
        settle=lambda x: "a" if x == 0 else "b" if x == 3 else "c",
        unit=" of 3 sizes run",
    ),
    "10.killed": Choose(
        "4 ranks train. The process of rank 2 is killed in the middle of a step. The error "
        "that you get names ...",
        {
            "a": Choice(
                "rank 2, within a second or two",
                "The parent sees at once that a process has ended, and how. What the others "
                "report a moment later, a broken connection, is a consequence of it.",
            ),
            "b": Choice(
                "rank 1 or rank 3, which lose a neighbour",
                "That is what many tools show: each neighbour reports a broken connection, "
                "and the one that knows the reason cannot report anything.",
            ),
            "c": Choice(
                "no rank: the others wait until the timeout of 30 s",
                "That is so where nobody observes the processes. Here the parent does.",
            ),
        },
        settle=lambda x: "a" if x == 2 else "b" if x in (1, 3) else "c",
        source="The rank that the error names",
    ),
}
