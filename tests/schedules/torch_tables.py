"""torch's own schedules and runtime as tables of tokens: no process, no tensor, no group.

torch's classes ask a stage only for its numbers before the first step, so a plain object with those
numbers stands for it. The names used here are private: a new torch may move them.
"""

import csv
from types import SimpleNamespace

from torch.distributed.pipelining import schedules

from pipelab.action import COMPUTE
from pipelab.schedules import Schedule

V_SHAPED = ("ScheduleZBVZeroBubble", "ScheduleDualPipeV")
_MESSAGES = ("SEND_F", "RECV_F", "SEND_B", "RECV_B")


def _stage(index, num_ranks, num_stages, rank=0):
    return SimpleNamespace(
        stage_index=index,
        num_stages=num_stages,
        group_size=num_ranks,
        group_rank=rank,
        submod=None,
        is_first=index == 0,
        is_last=index == num_stages - 1,
    )


def load(schedule, path):
    """torch's runtime of rank 0, once it has read and lowered what ``to_csv`` wrote."""
    path.write_text(schedule.to_csv(), "utf-8")
    p, n = schedule.num_ranks, schedule.num_stages
    stages = [_stage(index, p, n) for index in schedule.stages_of(0)]
    runtime = schedules._PipelineScheduleRuntime(stages, schedule.num_microbatches)
    runtime._load_csv(str(path), format="compute_only")
    return runtime


def computation(rows):
    """The tokens of the computing actions, per rank."""
    kinds = (*(kind.value for kind in COMPUTE), "OVERLAP_F_B")
    return [
        [str(a) for a in rows[rank] if a is not None and a.computation_type.value in kinds]
        for rank in sorted(rows)
    ]


def dry_run(runtime):
    """Computing actions, per rank, in the order in which torch's own dry run passes them.

    Raises ValueError if that run gets stuck. The dry run knows no sharding, no reduction and no
    overlap: the parts of one run in turn here, as they do in torch's runtime.
    """
    rows = {
        rank: [
            part
            for a in row
            if a.is_compute_op or a.computation_type.value in _MESSAGES
            for part in a.sub_actions or (a,)
        ]
        for rank, row in runtime.pipeline_order_with_comms.items()
    }
    homes = runtime.stage_index_to_group_rank
    return computation(schedules._simulate_comms_compute(rows, homes.__getitem__, len(homes)))


def dumped(name, num_ranks, num_microbatches, stages_per_rank, path, form="compute_only"):
    """The CSV of one of torch's schedule classes: of computation alone, or "compute_comms".

    The multi-stage ones write it themselves; the single-stage ones cannot, so their table is
    written here in the same way. It holds REDUCE_GRAD too, which is no computation.
    """
    build = getattr(schedules, name)
    n = num_ranks * stages_per_rank
    if issubclass(build, schedules.PipelineScheduleSingle):
        rows = build(_stage(0, num_ranks, n), num_microbatches).pipeline_order
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(computation(rows))
    else:
        local = (0, n - 1) if name in V_SHAPED else range(0, n, num_ranks)
        torch_schedule = build([_stage(i, num_ranks, n) for i in local], num_microbatches)
        torch_schedule._dump_csv(str(path), format=form)
    return path.read_bytes().decode()


class _RecordingStage(SimpleNamespace):
    """Writes down what a single-stage schedule has its stage compute; sends nothing."""

    def forward_one_chunk(self, microbatch, *args, **kwargs):
        self.row.append(f"{self.stage_index}F{microbatch}")

    def backward_one_chunk(self, microbatch, **kwargs):
        self.row.append(f"{self.stage_index}B{microbatch}")

    def no_messages(self, microbatch):
        return []

    get_fwd_recv_ops = get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = no_messages

    def perform_reduce_grad(self, scale):
        pass


def what_1f1b_runs(num_ranks, num_microbatches):
    """What ``Schedule1F1B.step`` has its stages compute: its actions, not its table."""
    rows = [[] for _ in range(num_ranks)]
    for rank, row in enumerate(rows):
        stage = _RecordingStage(**vars(_stage(rank, num_ranks, num_ranks, rank)), row=row)
        schedule = schedules.Schedule1F1B(stage, num_microbatches)
        schedule._initialize_stage = lambda *args: None
        schedule._step_microbatches()
    return Schedule.from_tokens(rows)
