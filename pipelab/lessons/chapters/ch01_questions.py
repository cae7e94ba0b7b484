"""What lesson 1, the relay team, asks before its runs. Needs no torch."""

from pipelab.lessons.questions import Estimate, Question
from pipelab.story import MINUTE

QUESTIONS: dict[str, Question] = {
    "01": Estimate(
        "Three cooks, six dishes, each cook needs a minute for each dish. Passed along, how "
        "many minutes until the last dish is ready?",
        "The first dish needs 3 minutes, then one dish is ready every minute: 3 + 5 = 8.",
        {
            18.0: "That is one dish after the other, without passing along.",
            6.0: "That would need all three cooks busy from the very first minute; but the "
            "last cook has nothing to do before the first dish arrives.",
            9.0: "Nearly: the first dish is ready after 3 minutes, so 5 more follow, not 6.",
        },
        tolerance=0.1,
        unit=" minutes",
        digits=2,  # a run is exact to a hundredth of them
        over=lambda minutes: minutes * MINUTE or None,
        expected=8.0,
    ),
}
