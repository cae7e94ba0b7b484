"""What lesson 12, the capstone, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "12": Choose(
        "A tiny GPT on 4 ranks, in microbatches of 2 rows: one pipeline of 4 stages, or 4 "
        "replicas that hold the whole model. The fullest rank of the replicas holds, compared "
        "with the fullest one of the pipeline, ...",
        {
            "a": Choice(
                "as many bytes: each rank does a quarter of the work either way",
                "A quarter of the rows is a quarter of the work, but not of the weights: a "
                "replica has them all, and their gradients, and the optimizer's state.",
            ),
            "b": Choice(
                "more bytes, but less than 4 times as many",
                "Weights, gradients and optimizer state are 4 times as many. Activations are "
                "not: the pipeline's rank 0 holds 4 microbatches of a quarter of the layers, "
                "a replica holds 1 microbatch of all layers.",
            ),
            "c": Choice(
                "4 times as many: it holds 4 times the layers",
                "Of weights that is so. But 1F1B's rank 0 holds 4 microbatches at a time, and a "
                "replica only one: their activations are about as many.",
            ),
        },
        settle=lambda x: "a" if x < 1.2 else "b" if x < 3.5 else "c",
        unit=" times the bytes",
    ),
    "12.time": Choose(
        "The same three grids, 1F1B, on links of 100 MB/s, each F with a start of 1 ms. The "
        "shortest step is that of ...",
        {
            "a": Choice(
                "1 × 4: each rank has the least to compute",
                "All grids have the same rows and layers on 4 ranks, so each rank computes a "
                "quarter everywhere. What differs is the waiting, and the pipeline waits most.",
            ),
            "b": Choice(
                "2 × 2: half of each",
                "It is between the two: one rank to wait for instead of three, and a shorter "
                "average over replicas than that of the whole model.",
            ),
            "c": Choice(
                "4 × 1: no rank waits for another one until the gradients are averaged",
                "No bubble, and no message within the step: only the gradients travel, once. On "
                "these links that is shorter than the bubble. On slower ones it is not.",
            ),
        },
        settle=lambda x: "a" if x < 1.5 else "b" if x < 3 else "c",
        unit=" replicas",
        source="The fastest grid",
        expected=4,
    ),
    "12.budget": Choose(
        "Each rank may hold 3 MB. 2 × 2 with the cut 5, 3 does not fit: its first rank holds "
        "3.7 MB. What makes it fit?",
        {
            "a": Choice(
                "twice as many microbatches: each of them keeps half as much",
                "That halves what is kept, 1.1 MB on this rank: 3.2 MB remain, and 3.5 MB while "
                "gradients are averaged. Most of its bytes are weights, gradients and momentum, "
                "and microbatches do not change those.",
            ),
            "b": Choice(
                "another cut: 4, 4",
                "One block less on the first rank: its weights three times, and what two "
                "microbatches keep of it. The step is longer, since the head makes the second "
                "stage slow: that cut is even in bytes, 5, 3 is even in seconds.",
            ),
            "c": Choice(
                "another schedule: ZB-H1 holds no more than 1F1B",
                "No more, and no less either: rank 0 holds as many microbatches. It is faster, "
                "and its last rank holds more.",
            ),
        },
        settle=lambda x: {1: "a", 2: "b", 3: "c"}[round(x)],
        source="The change that trains",
    ),
}
