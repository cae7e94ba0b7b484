"""Levels 7 to 12: messages, several stages on a rank, backwards in two halves, a slow rank."""

from pipelab.levels.level import Level

_WHOLE = (0.010, 0.010, 0.010)  # seconds of F, I and W
_HALF = (0.005, 0.005, 0.005)  # of one of two stages on a rank

LAST = (
    Level(
        name="messages-take-time",
        title="Messages take time",
        task="Now a message takes as long as a forward: 10 ms. In 1F1B each rank waits for each "
        "message. There is room for three microbatches: hide the messages behind work.",
        start=(
            "0F0 0F1 0B0 0F2 0B1 0F3 0B2 0F4 0B3 0B4",
            "1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3 1F4 1B4",
        ),
        hints=(
            "Why does rank 1 wait before each forward? When did rank 0 send what it needs?",
            "Rank 0 may hold three microbatches: 0F2 before 0B0, 0F3 before 0B1, 0F4 before 0B2.",
            "Three forwards of warmup, then B and F in turns: 0F0 0F1 0F2 0B0 0F3 0B1 0F4 0B2 0B3 "
            "0B4. Rank 1 can stay.",
        ),
        learnt="More forwards in advance give each message the time of an action to arrive. The "
        "price is memory. A faster network would be the other way.",
        goal=0.230,
        par=0.200,
        times=_WHOLE,
        latency=0.010,
        num_microbatches=5,
        limit=3,
        schedule="eager_1f1b",
    ),
    Level(
        name="two-stages-each",
        title="Two stages each",
        task="The same model in four stages of half the size: rank 0 has stages 0 and 2, rank 1 "
        "has 1 and 3. Each microbatch passes each rank twice. Interleave the two, so that the "
        "pipeline fills in half the time.",
        start=(
            "0F0 2F0 2B0 0B0 0F1 2F1 2B1 0B1 0F2 2F2 2B2 0B2",
            "1F0 3F0 3B0 1B0 1F1 3F1 3B1 1B1 1F2 3F2 3B2 1B2",
        ),
        hints=(
            "While microbatch 0 is on rank 1, what could rank 0 do with microbatch 1?",
            "Let all microbatches pass stage 0 before the first enters stage 2: 0F2 before 2F0, "
            "and 1F2 before 3F0. On the way back likewise: 2B2 before 0B0.",
            "0F0 0F1 0F2 2F0 2F1 2F2 2B0 2B1 2B2 0B0 0B1 0B2 and 1F0 1F1 1F2 3F0 3B0 3F1 3B1 3F2 "
            "3B2 1B0 1B1 1B2.",
        ),
        learnt="With v stages on each rank the bubble is 1/v as long: the pipeline fills with "
        "smaller steps. The price: v times as many messages, and some more memory.",
        goal=0.150,
        par=0.105,
        times=_HALF,
        num_microbatches=3,
        schedule="interleaved",
    ),
    Level(
        name="two-halves",
        title="Backwards in two halves",
        task="A backward has two halves: I makes the gradient of the input, for which the rank "
        "before waits, and W that of the weights, for which nobody waits. Here W follows each I at "
        "once. Let W wait instead.",
        start=("0F0 0F1 0I0 0W0 0F2 0I1 0W1 0I2 0W2", "1F0 1I0 1W0 1F1 1I1 1W1 1F2 1I2 1W2"),
        hints=(
            "Rank 0 waits for the results of rank 1's I. Which of rank 1's actions are in the way?",
            "1F1 needs nothing of 1W0, and rank 0 waits for 1I1: let 1W0 come after 1I1.",
            "1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1W2. Rank 0 can stay.",
        ),
        learnt="W is work that fits anywhere after its I: it fills the bubble. This idea is the "
        "start of all zero-bubble schedules.",
        goal=0.100,
        par=0.100,
        times=_WHOLE,
        num_microbatches=3,
        limit=2,
        schedule="zero_bubble_h1",
    ),
    Level(
        name="zero-bubble",
        title="Zero bubble under a memory cap",
        task="Three ranks, four microbatches, backwards in two halves, and no more memory than "
        "1F1B: three microbatches. Until its W has run, a microbatch is held. Put each W where "
        "the rank would be idle, but not too late.",
        start=(
            "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3",
            "1F0 1F1 1I0 1W0 1F2 1I1 1W1 1F3 1I2 1W2 1I3 1W3",
            "2F0 2I0 2W0 2F1 2I1 2W1 2F2 2I2 2W2 2F3 2I3 2W3",
        ),
        hints=(
            "Rank 1 waits for each I of rank 2. What does rank 2 do before its next I?",
            "Hold back each W as long as memory allows: on rank 2, 2I2 before 2W0 and 2W0 before "
            "2F3. On rank 1, 1I1 before 1W0.",
            "1F0 1F1 1I0 1F2 1I1 1W0 1F3 1I2 1W1 1I3 1W2 1W3 and 2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 "
            "2I3 2W1 2W2 2W3. Rank 0 can stay.",
        ),
        learnt="The bubble that is left is the filling of the pipeline: (p−1)F, a third of that of "
        "1F1B, with no more memory. Steps that follow each other without a barrier hide that, too.",
        goal=0.150,
        par=0.140,
        times=_WHOLE,
        num_microbatches=4,
        limit=3,
        schedule="zero_bubble_h1",
    ),
    Level(
        name="the-v",
        title="The V",
        task="Four stages of half the size in a V: rank 0 has the first and the last, rank 1 the "
        "two between. So the loss is on rank 0, where its backward begins. A rank may hold two "
        "microbatches of its slice of the model: four activations, two for each stage.",
        start=(
            "0F0 3F0 3I0 3W0 0I0 0W0 0F1 3F1 3I1 3W1 0I1 0W1 0F2 3F2 3I2 3W2 0I2 0W2",
            "1F0 2F0 2I0 2W0 1I0 1W0 1F1 2F1 2I1 2W1 1I1 1W1 1F2 2F2 2I2 2W2 1I2 1W2",
        ),
        hints=(
            "Rank 0 waits while rank 1 has microbatch 0. Which forwards could it run meanwhile?",
            "0F1 and 0F2 before 3F0 on rank 0; 1F1 before 2F1, 2F1 before 2I0 on rank 1. At the "
            "end, W wait for I: 1I2 before 1W1.",
            "0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0I0 0W0 3F2 3I2 3W2 0I1 0W1 0I2 0W2 and 1F0 2F0 "
            "1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1I1 2I2 1I2 1W1 2W2 1W2.",
        ),
        learnt="In a V no rank is only first or only last: all hold the same, and the pipeline "
        "fills with half of a forward. What is left idle is half of one forward on each rank.",
        goal=0.120,
        par=0.095,
        times=_HALF,
        num_microbatches=3,
        limit=2,
        schedule="zero_bubble_v",
    ),
    Level(
        name="a-slow-rank",
        title="A slow rank",
        task="Five stages on three ranks, and rank 1 takes twice as long for everything. It has "
        "two stages, so all wait for it. Here a stage may move: take one of its tokens to another "
        "rank, and the whole stage follows.",
        start=(
            "0F0 0F1 0F2 0B0 0B1 0B2",
            "1F0 2F0 1F1 2F1 2B0 1B0 1F2 2F2 2B1 1B1 2B2 1B2",
            "3F0 4F0 4B0 3B0 3F1 4F1 4B1 3B1 3F2 4F2 4B2 3B2",
        ),
        hints=(
            "How long does each rank work on one microbatch? Count its stages, on rank 1 twice.",
            "30, 120 and 60 ms. With one stage less, rank 1 needs 60 ms. Stages of a rank follow "
            "each other best: which neighbour has room?",
            "Take 1F0 to rank 0. Then rank 0 reads 0F0 1F0 0F1 1F1 0F2 1F2 1B0 0B0 1B1 0B1 1B2 0B2 "
            "and rank 1 reads 2F0 2F1 2B0 2F2 2B1 2B2.",
        ),
        learnt="The slowest rank sets the pace, so it gets fewer layers. Megatron-LM writes such a "
        "cut as a pipeline layout; lesson 8 measures who is slow, and cuts by costs.",
        goal=0.360,
        par=0.300,
        times=_WHOLE,
        num_microbatches=3,
        slow=(1.0, 2.0, 1.0),
        may_move=True,
    ),
)
