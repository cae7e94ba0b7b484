"""What lesson 6, the payoff, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Estimate, Question

QUESTIONS: dict[str, Question] = {
    "06": Estimate(
        "A budget of 1.5 million bytes on each rank; one rank trains 5 layers in it. How many "
        "layers train on 4 ranks?",
        "Each rank holds only its own layers, so each of the 4 has memory for 5.",
        {
            5.0: "That is what one rank holds. On 4 ranks, no rank holds all layers.",
            10.0: "That is what 2 ranks hold.",
            8.0: "That was the model of earlier lessons; there is memory for more.",
            15.0: "Does each rank need memory that it would not need alone? For the messages "
            "at its cuts, but they are small compared with the bytes of a layer.",
        },
        tolerance=0.1,
        unit=" layers",
        expected=20.0,
    ),
    "06.speed": Estimate(
        "4 ranks instead of one, of the same speed, 16 microbatches: how many times as fast is "
        "a step?",
        "In units of F + B: 16 + 3 = 19, each a quarter as long as one rank's: 16 × 4/19, about "
        "3.4. The bubble takes the rest.",
        {
            4.0: "Four times as many ranks, but not from the first moment to the last: 3 of 19 "
            "F + B are bubble.",
            1.0: "That was lesson 3, with a single microbatch.",
            16.0: "More microbatches make the bubble smaller; but there are still only 4 ranks "
            "that do the work.",
        },
        tolerance=0.17,  # a busy machine; but 4 is never near 3.37
        expected=64 / 19,
        unit=" times as fast",
    ),
    "06.cores": Choose(
        "The same without pacing: real arithmetic, as fast as this machine can, 4 ranks "
        "against one, 8 microbatches. A step is ...",
        {
            "a": Choice(
                "4 times as fast, for there are 4 processes",
                "A process is not a device: processes share the cores of the machine. And the "
                "bubble stays in any case.",
            ),
            "b": Choice(
                "almost 3 times as fast, as the formula says",
                "The formula assumes a separate device for each rank. If a machine has "
                "enough free cores, it is right for real arithmetic, too; otherwise not.",
            ),
            "c": Choice(
                "slower than the formula says, for the ranks share the free cores of this machine",
                "More ranks than free cores only take turns. What you measured "
                "there is your machine.",
            ),
        },
        settle=lambda x: "a" if x > 3.5 else "b" if x > 2.4 else "c",
        unit=" times as fast",
    ),
}
