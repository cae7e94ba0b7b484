"""What lesson 2, split the model, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "02": Choose(
        "8 layers on 4 ranks, the batch in one piece: which bytes shrink on each rank?",
        {
            "a": Choice(
                "only the parameters",
                "Gradients and optimizer state belong to parameters: where there is no "
                "parameter, there is neither.",
            ),
            "b": Choice(
                "parameters, gradients and optimizer state, but not the activations",
                "It is true that every row of the batch passes every rank. But a rank keeps "
                "only what its own layers need for their backward.",
            ),
            "c": Choice(
                "all four",
                "Everything belongs to some layer, and each layer is on one rank only. The "
                "activations shrink a little less: what is sent from rank to rank is kept on "
                "both sides.",
            ),
            "d": Choice(
                "none: it is still the same model",
                "All ranks together hold as much as before; but a device only needs memory "
                "for its own share.",
            ),
        },
        settle=lambda kinds: {4: "c", 3: "b", 0: "d"}.get(round(kinds), "a"),
        unit=" of 4 kinds of bytes shrink to less than half",
    ),
}
