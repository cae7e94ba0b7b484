"""What lesson 8, balance and stragglers, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Estimate, Question

QUESTIONS: dict[str, Question] = {
    "08": Choose(
        "4 ranks, 1F1B, 8 microbatches. All stages cost 1; then stage 2 costs 2. The step "
        "becomes ...",
        {
            "a": Choice(
                "a quarter longer",
                "There is a quarter more work, that is right. But it is not shared: the other "
                "three ranks have to wait while it is done, once for each microbatch.",
            ),
            "b": Choice(
                "about two thirds longer",
                "Each microbatch leaves stage 2 two units after the one before, so in the steady "
                "state everything takes twice as long. The way there and back does not: three of "
                "its four stages are as they were.",
            ),
            "c": Choice(
                "twice as long",
                "That would be so for infinitely many microbatches. With 8 of them the way through "
                "the other stages, which are not slower, is still a part of the step.",
            ),
        },
        settle=lambda x: "a" if x < 1.4 else "b" if x < 1.85 else "c",
        unit=" times as long",
        expected=5 / 3,
    ),
    "08.job": Estimate(
        "If the slow stage took as long as the other three, the step would be shorter by ...",
        "The slowest stage takes 345 ms for each of 4 microbatches, the others 213. A step is the "
        "way through all stages, once, and the slowest stage three times more: "
        "984 + 3 × 345 = 2019 ms, and 852 + 3 × 213 = 1491 ms without the slow stage.",
        slips={
            0.13: "That is how much work would go: 132 of 984 ms. But three more microbatches "
            "follow at the slow stage's pace, and all ranks wait for it.",
            0.38: "That is how much shorter the stage itself would be. The way through the other "
            "three stages is in the step as well, and stays.",
            0.15: "That is the share that an even cut of the same work gives.",
        },
        tolerance=0.1,
        unit=" of the step",
        digits=2,
        most=1.0,
        expected=528 / 2019,
    ),
}
