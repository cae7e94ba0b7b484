"""What lesson 9, hide the messages, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Choice, Choose, Question

QUESTIONS: dict[str, Question] = {
    "09": Choose(
        "4 ranks, 1F1B, 8 microbatches; a message takes a quarter of a forward. Of the time "
        "that messages add when each send blocks, sending beside the computation leaves ...",
        {
            "a": Choice(
                "nothing",
                "That would be so if a rank always had other work. Under 1F1B it sends a "
                "result and then needs the answer to the one before, which is still under way.",
            ),
            "b": Choice(
                "about half",
                "Half of the *message time* is hidden, that is right: a rank computes during "
                "half of its messages. But time is saved only where nobody waits for them.",
            ),
            "c": Choice(
                "most of it",
                "The sender is free sooner, but its neighbour still has to wait for the "
                "message, and then the sender for its answer.",
            ),
        },
        settle=lambda x: "a" if x < 0.25 else "b" if x < 0.7 else "c",
        unit=" of the added time is left",
        expected=16 / 19,
    ),
    "09.link": Choose(
        "Two links that cost the same with 8 microbatches: a far one, 8 ms for any message, "
        "and a narrow one, where the bytes decide. With 32 microbatches the step is ...",
        {
            "a": Choice(
                "shorter over both links",
                "The bubble is smaller, and each message has fewer bytes. But over the far "
                "link a small message takes as long as a large one, and there are more.",
            ),
            "b": Choice(
                "shorter over the narrow link, longer over the far one",
                "Latency is paid for each message, bandwidth for each byte: more and smaller "
                "messages cost more of the first, and the same of the second.",
            ),
            "c": Choice(
                "longer over both links, for there are more messages",
                "The narrow link carries as many bytes as before, in smaller parts; and "
                "with smaller parts the next rank can begin earlier.",
            ),
        },
        settle=lambda x: "b" if x > 1.1 else "a",
        unit=" times as long over the far link as over the narrow one",
        expected=1.6,
    ),
}
