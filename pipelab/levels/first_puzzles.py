"""Levels 1 to 6: order, deadlock, memory, and blocks, with one stage on each rank.

F, I and W take 10 ms each, as everywhere in the course, so B takes 20.
"""

from pipelab.levels.level import Level

_TIMES = (0.010, 0.010, 0.010)  # seconds of F, I and W

FIRST = (
    Level(
        name="first-steps",
        title="First steps",
        task="Two ranks, two microbatches. Each row is a rank, each token an action: F is a "
        "forward, B its backward, the last number the microbatch. Now the second microbatch waits "
        "until the first has come back. Let both ranks work at the same time: one move is enough.",
        start=("0F0 0B0 0F1 0B1", "1F0 1B0 1F1 1B1"),
        hints=(
            "Rank 0 has nothing to do while rank 1 works on microbatch 0. What could it do?",
            "0F1 can run before 0B0: it needs nothing from rank 1.",
            "Move 0F1 one place to the left, so that rank 0 reads 0F0 0F1 0B0 0B1. Rank 1 can "
            "stay as it is.",
        ),
        learnt="Microbatches let ranks overlap. The idle time that is left is the bubble: the "
        "first microbatch has to reach the last rank, and the last one has to come back.",
        goal=0.100,
        par=0.090,
        times=_TIMES,
        num_microbatches=2,
        schedule="gpipe",
    ),
    Level(
        name="fill-and-drain",
        title="Fill and drain",
        task="Three ranks, three microbatches, still one after another. Fill the pipeline with "
        "forwards, then drain it with backwards.",
        start=(
            "0F0 0B0 0F1 0B1 0F2 0B2",
            "1F0 1B0 1F1 1B1 1F2 1B2",
            "2F0 2B0 2F1 2B1 2F2 2B2",
        ),
        hints=(
            "Which rank waits longest for its first backward? It can run forwards meanwhile.",
            "0F1 and 0F2 can run before 0B0. On rank 1, 1F1 can run before 1B0.",
            "0F0 0F1 0F2 0B0 0B1 0B2 and 1F0 1F1 1F2 1B0 1B1 1B2. The last rank has each backward "
            "at hand right after its forward: leave it.",
        ),
        learnt="Forwards first, then backwards: the bubble is (p−1)/(m+p−1) of the time, so more "
        "microbatches make it smaller. The price is memory: rank 0 holds the activations of all of "
        "them.",
        goal=0.210,
        par=0.150,
        times=_TIMES,
        num_microbatches=3,
        schedule="gpipe",
    ),
    Level(
        name="nobody-can-go-on",
        title="Nobody can go on",
        task="This order cannot run: two ranks wait for each other. Below the grid you read who "
        "waits for what; the tokens at fault are marked. Repair it, then make it short.",
        start=(
            "0F0 0F1 0F2 0B0 0B1 0B2",
            "1F0 1B0 1F1 1B1 1F2 1B2",
            "2F0 2F1 2B0 2F2 2B1 2B2",
        ),
        hints=(
            "Rank 2 wants 2F1 next. Who makes its input, and what has that rank put before it?",
            "Rank 1 wants 2B0 before it runs 1F1, and rank 2 wants 1F1 before it runs 2B0. One of "
            "the two has to give way.",
            "Let rank 1 run ahead: 1F0 1F1 1B0 1F2 1B1 1B2. Let rank 2 take turns: 2F0 2B0 2F1 2B1 "
            "2F2 2B2.",
        ),
        learnt="A deadlock is a ring of ranks that wait for each other. It depends on the order "
        "alone, so pipelab finds it before a process starts. With a real engine that does not "
        "look, such a job hangs until a timeout.",
        goal=0.210,
        par=0.150,
        times=_TIMES,
        num_microbatches=3,
        schedule="1f1b",
    ),
    Level(
        name="one-forward-one-backward",
        title="One forward, one backward",
        task="GPipe, and it does not fit: a rank may now hold three microbatches, and all hold "
        "four. A backward gives back what its forward keeps. Fit into the memory, and do not get "
        "slower.",
        start=(
            "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3",
            "1F0 1F1 1F2 1F3 1B0 1B1 1B2 1B3",
            "2F0 2F1 2F2 2F3 2B0 2B1 2B2 2B3",
        ),
        hints=(
            "The strip below the picture shows what each rank holds. When does it first go over "
            "the dashed line, and which backward would bring it down before?",
            "The last rank never needs to hold more than one microbatch: it can run 2B0 right "
            "after 2F0. The rank before it needs two.",
            "Three forwards first, 0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3; two on rank 1, 1F0 1F1 1B0 1F2 "
            "1B1 1F3 1B2 1B3; one on rank 2, 2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3.",
        ),
        learnt="The same bubble with less memory: rank r holds at most p−r microbatches, however "
        "many there are. This order is the usual one in Megatron-LM, DeepSpeed and PyTorch.",
        goal=0.240,
        par=0.180,
        times=_TIMES,
        num_microbatches=4,
        limit=3,
        schedule="1f1b",
    ),
    Level(
        name="tighter-memory",
        title="Tighter memory",
        task="1F1B on four ranks holds four microbatches on rank 0; now two have to do. Time is "
        "the price of memory. Pay as little as you can.",
        start=(
            "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3",
            "1F0 1F1 1F2 1B0 1F3 1B1 1B2 1B3",
            "2F0 2F1 2B0 2F2 2B1 2F3 2B2 2B3",
            "3F0 3B0 3F1 3B1 3F2 3B2 3F3 3B3",
        ),
        hints=(
            "With two microbatches at once on each rank, how many can be on their way in all?",
            "0F2 has to come after 0B0 and 0F3 after 0B1; on rank 1, 1F2 after 1B0.",
            "0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3, then pairs: 1F0 1F1 1B0 1B1 1F2 1F3 1B2 1B3 and 2F0 "
            "2F1 2B0 2B1 2F2 2F3 2B2 2B3. The last rank can stay.",
        ),
        learnt="Between memory and time there is a frontier. Whole backwards and one stage on "
        "each rank get no further; later levels do, with backwards in two halves or stages in a V.",
        goal=0.330,
        par=0.270,
        times=_TIMES,
        num_microbatches=4,
        limit=2,
    ),
    Level(
        name="stamp-a-block",
        title="Stamp a block",
        task="A schedule can be a block: what is done for one microbatch, repeated. Here is "
        "microbatch 0 alone. Choose a period, in slots of 10 ms, and stamp eight microbatches. Too "
        "long a period leaves holes; too short a one puts two actions into one slot.",
        start=("0F0 0B0", "1F0 1B0", "2F0 2B0", "3F0 3B0"),
        hints=(
            "How many slots of work does a rank have for one microbatch? F takes one, B two.",
            "No period can be shorter than the work of one microbatch on a rank.",
            "Period 3, 8 microbatches: Stamp block.",
        ),
        learnt="A block and its period decide everything: the time of a microbatch, and by the "
        "lifespans of its activations the memory. Newer schedules are found by designing blocks "
        "(Qi et al. 2024, arXiv 2405.15362).",
        goal=0.450,
        par=0.330,
        times=_TIMES,
        num_microbatches=8,
        limit=4,
        may_stamp=True,
        schedule="1f1b",
    ),
)
