"""What lesson 11, fewer bubbles, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "11": Choose(
        "4 ranks, 8 microbatches, and two smaller stages on each rank instead of one. The idle "
        "time is halved. The number of messages is ...",
        {
            "a": Choice(
                "the same: as many microbatches pass as many ranks",
                "A microbatch passes every rank twice now. It crosses from rank to rank "
                "7 times on its way down instead of 3 times, and as often on its way back.",
            ),
            "b": Choice(
                "twice as many",
                "Nearly. The way from the last rank back to the first one is a message, too.",
            ),
            "c": Choice(
                "more than twice as many",
                "8 stages have 7 cuts, 4 stages have 3: 112 messages instead of 48.",
            ),
        },
        settle=lambda x: "a" if x < 1.5 else "b" if x <= 2.05 else "c",
        unit=" times as many messages",
    ),
    "11.halves": Choose(
        "One stage on each rank, B cut into halves I and W, F = I = W. Of 1F1B's idle time, "
        "with no more memory on any rank than 1F1B's rank 0 has, there remains ...",
        {
            "a": Choice(
                "all of it: the work is the same",
                "The work is the same, but a rank that waits can do a W: nobody waits for that.",
            ),
            "b": Choice(
                "a third",
                "(p - 1)(F + I - W) instead of (p - 1)(F + I + W): each rank sends its I on "
                "earlier by one W, and fills a slot in which it waited with another.",
            ),
            "c": Choice(
                "nothing",
                "At the start no rank has a W to do: there is nothing to fill the first "
                "staircase with, unless it runs more forwards ahead, which takes memory.",
            ),
        },
        settle=lambda x: "c" if x < 0.12 else "b" if x < 0.7 else "a",
        unit=" of 1F1B's idle time",
        expected=1 / 3,
    ),
    "11.limit": Choose(
        "Each rank may hold 2 microbatches, half of what 1F1B's rank 0 holds. The bubble of the "
        "best schedule that we know of is ...",
        {
            "a": Choice(
                "a fifth of 1F1B's, as ZB-V's is",
                "ZB-V holds 4 microbatches. With 2 no order is known that fills all ranks: each "
                "microbatch must be nearly done before the next one may come in.",
            ),
            "b": Choice(
                "two thirds of 1F1B's",
                "In a V a rank holds a microbatch's second stage only shortly, and its first one "
                "not until the very end: V-Min repeats the pattern that holds least.",
            ),
            "c": Choice(
                "larger than 1F1B's: memory buys time",
                "It does, along the line. But 1F1B is far above the line: it holds 4 where 2 are "
                "enough, since its rank 0 waits for its backwards to come all the way back.",
            ),
        },
        settle=lambda x: "a" if x < 0.45 else "b" if x < 1 else "c",
        unit=" of 1F1B's bubble",
        source="Predicted",
    ),
    "11.flight": Choose(
        "ZB-H2, and each rank begins the next step as soon as its own part of this one has "
        "ended. In the middle of the training, the bubble of one step is ...",
        {
            "a": Choice(
                "11 %, as in a single step",
                "That is the two staircases. Here a rank that is done early begins the next "
                "step early, and the staircases of two steps fit into each other.",
            ),
            "b": Choice(
                "half of it: one staircase of the two",
                "The stairs down at the end of one step and those at the start of the next have "
                "the same shape: nothing is left between them.",
            ),
            "c": Choice(
                "next to nothing",
                "No rank is idle within its own span, and the spans of two steps follow each "
                "other on each rank. What is left is what this machine adds.",
            ),
        },
        settle=lambda x: "c" if x < 0.045 else "b" if x < 0.085 else "a",
        unit=" of the ranks' time idle",
        expected=0.0,
    ),
}
