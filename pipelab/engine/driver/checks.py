"""Refuse before anything runs what can be known to be wrong without the ranks."""

import inspect
import math
import warnings
from collections.abc import Collection, Sequence
from functools import partial

import cloudpickle
import torch
from torch import Tensor, nn

from pipelab.engine.protocol.commands import Loss, Options, Reduction
from pipelab.engine.protocol.host import under_torchrun
from pipelab.errors import BatchError, LossError, PipelabError, PipelineClosed, ScheduleError
from pipelab.partition.tree import described
from pipelab.schedules import Schedule
from pipelab.simulator import Cost
from pipelab.threads import num_threads

TRIED = ("2.13",)
"""Versions of PyTorch that ``worker="torch"`` was tried with: it uses private names."""

_LONGEST = 1e6  # seconds: what the system can wait for
_OUTPUT = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.9]])
_TARGETS = torch.tensor([0, 2]), torch.tensor([[0.3, 0.1, 0.8], [0.9, 0.2, 0.4]])


def check_in_flight(in_flight: int) -> None:
    """Raise PipelabError unless it is a number of steps."""
    if not isinstance(in_flight, int) or isinstance(in_flight, bool) or in_flight < 1:
        raise PipelabError(f"in_flight={in_flight!r}: give a number of steps, 1 or more")


def check_targets(targets: object) -> None:
    """Raise BatchError where a loss is wanted and nothing is there to compare with."""
    if targets is None:
        raise BatchError(
            "targets is a NoneType, and the loss is called as loss(output, target): give targets;\n"
            "for a loss of the output alone the inputs once more, which it ignores: step(x, x)"
        )


def check_trains(num_trained: int, num_parameters: int) -> None:
    """Raise PipelabError for a step of a model that has nothing to train."""
    if num_trained:
        return
    what = f"none of its {num_parameters} parameters requires a gradient"
    raise PipelabError(
        f"the model has nothing to train ({what if num_parameters else 'it has no parameters'}):\n"
        f"say requires_grad_() of some before the pipeline is made, or use evaluate() and predict()"
    )


def check_loss(loss: Loss, reduction: Reduction = "mean") -> None:
    """Raise LossError if a loss is no number, or not the mean (or sum) that it is said to be.

    A copy of the loss is tried on a few small rows. The last rank tries it again, on the first real
    ones (protocol/loss_trial.py): these shapes may mean something else to the loss.
    """
    if not callable(loss):
        raise LossError(f"the loss is a {type(loss).__name__}: give a function (output, target)")
    _refuse_class(loss)
    _check_call(loss)
    own = loss.named_parameters() if isinstance(loss, nn.Module) else ()
    if trained := [name for name, parameter in own if parameter.requires_grad]:
        raise LossError(
            f"the loss has trainable parameters ({', '.join(trained)}), which no optimizer would "
            f"train: move them into the model's last layer"
        )
    copy = _copied(loss)
    found: list[str] = []
    for target in _TARGETS:
        try:
            with torch.no_grad(), num_threads(1), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of our shapes, not of the learner's
                value = copy(_OUTPUT.clone(), target.clone())
                twice = copy(torch.cat([_OUTPUT] * 2), torch.cat([target] * 2))
        except Exception:  # the loss wants other shapes: nothing is learnt from this try
            continue
        if isinstance(value, Tensor) and value.is_complex():
            raise LossError("the loss returned a complex number: return a real one (its .abs())")
        if isinstance(value, Tensor) and value.numel() == 1:
            return _check_reduction(value.item(), twice.item(), reduction)
        found.append(described(value))
    if found:
        raise LossError(
            f"the loss returned {found[0]} for 2 rows: it must return one number, a scalar tensor, "
            f"the mean over its rows (reduction='mean')"
        )


def _check_call(loss: Loss) -> None:
    """Raise LossError for a loss that cannot be called with an output and a target."""
    try:
        inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).bind(None, None)
    except TypeError as error:
        raise LossError(
            f"the loss cannot be called as loss(output, target): {error}.\n"
            f"If it needs the output alone, say lambda output, target: loss(output),\n"
            f"and give the inputs as targets too: step(x, x)"
        ) from None
    except ValueError:  # written in C, without a signature
        pass


def _refuse_class(loss: Loss) -> None:
    """A class called with output and target makes an object, and no number."""
    made = loss.func if isinstance(loss, partial) else loss
    if isinstance(made, type):
        name = made.__name__
        how = f"{name}.apply" if issubclass(made, torch.autograd.Function) else f"{name}()"
        raise LossError(
            f"the loss is the class {name}, which is no function (output, target): give {how}"
        )


def _copied(loss: Loss) -> Loss:
    try:
        copy: Loss = cloudpickle.loads(cloudpickle.dumps(loss))
    except Exception as error:
        raise LossError(
            f"the loss cannot be sent to its rank: {type(error).__name__}: {error}\n"
            f"Each rank is a process, and what it gets is pickled. Open files, locks and "
            f"generators cannot be."
        ) from error
    return copy


def _check_reduction(value: float, twice: float, reduction: str) -> None:
    """A loss that adds up is twice as large for the same rows given twice; a mean stays."""
    adds_up = math.isclose(twice, 2 * value, rel_tol=1e-4) and value != 0.0
    stays = math.isclose(twice, value, rel_tol=1e-4)
    tried = f"(2 rows {value:.4g}, the same rows twice {twice:.4g})"
    if reduction == "mean" and adds_up:
        raise LossError(
            f"the loss adds up over its rows {tried}: let it average (reduction='mean'), or say "
            f"Pipeline(..., reduction='sum'); its gradients are then averaged too"
        )
    if reduction == "sum" and stays and not adds_up:
        raise LossError(
            f"the loss averages over its rows {tried}, but reduction='sum' says that it adds up: "
            f"leave reduction= out"
        )


def check_training(
    replicas: int, clip_norm: float | None, checkpoint: bool | Collection[int], num_stages: int
) -> None:
    """Raise PipelabError for replicas, a norm or stages that cannot exist."""
    if replicas < 1:
        raise PipelabError(f"replicas={replicas}: there is at least 1 copy of the pipeline")
    if clip_norm is not None and not clip_norm > 0:
        raise PipelabError(f"clip_norm={clip_norm}: a norm to clip to is above 0")
    chosen = () if isinstance(checkpoint, bool) else checkpoint
    if strange := sorted(set(chosen) - set(range(num_stages))):
        raise PipelabError(
            f"checkpoint={strange}: this model has stages 0 to {num_stages - 1}; name some of them"
        )


def check_schedule(schedule: Schedule, pace: Cost | None, options: Options) -> None:
    """Raise PipelabError for a pace or options that do not go with a schedule."""
    check_pace(pace, schedule.num_stages, schedule.num_pieces)
    check_slices(schedule, options)


def check_pace(pace: Cost | None, num_stages: int, num_microbatches: int) -> None:
    """Raise PipelabError for a pace that is no cost, or one of other stages or microbatches."""
    if pace is None:
        return
    if not isinstance(pace, Cost):
        raise PipelabError(
            f"pace={pace!r}: give a Cost, such as Cost(0.01, 0.01, 0.01) for F, I and W in seconds"
        )
    pace.check_stages(num_stages)
    pace.check_microbatches(num_microbatches)


def check_slices(schedule: Schedule, options: Options) -> None:
    """Raise PipelabError for what does not go together with sequences cut in slices."""
    if schedule.slices == 1:
        return
    if options.worker == "torch":
        raise PipelabError(
            f"{schedule.name} cuts sequences in slices, but torch.distributed.pipelining runs "
            f"whole microbatches:\nleave worker='torch' out, or use a schedule without slices, "
            f"such as one_f_one_b"
        )


def check_worker(
    options: Options, num_ranks: int, replicas: int, pace: Cost | None, overlap: bool
) -> None:
    """Raise PipelabError if torch cannot run these options, or this torch was not tried."""
    if options.worker == "pipelab":
        return
    if options.worker != "torch":
        raise PipelabError(f"worker={options.worker!r}: the workers are 'pipelab' and 'torch'")
    version = torch.__version__
    if ".".join(version.split(".")[:2]) not in TRIED:
        raise PipelabError(
            f"worker='torch' uses private names of PyTorch and was only tried with PyTorch "
            f"{', '.join(TRIED)}; here is {version}: install one of those, or leave worker= out"
        )
    slow_messages = pace is not None and (pace.latency > 0 or pace.bandwidth < math.inf)
    not_torchs = {
        "device='cuda' (it was tried on CPUs alone)": options.place.device != "cpu",
        "ranks of torchrun's": under_torchrun(),
        "checkpoint=": bool(options.checkpoint),
        "memory_budget= (its receive buffers go uncounted)": options.memory_budget is not None,
        "overlap=False": not overlap,
        "stop_at_nan=": options.stop_at_nan,
        "pace= with latency or bandwidth (its messages have no timestamps)": slow_messages,
        "replicas= of a single rank": replicas > 1 and num_ranks == 1,
    }
    if found := [name for name, is_asked in not_torchs.items() if is_asked]:
        raise PipelabError(
            f"worker='torch' does not work with {'; '.join(found)}: leave that out, or "
            f"worker='torch'"
        )


def check_even(worker: str, train: bool, sizes: Sequence[tuple[int, ...]]) -> None:
    """Raise BatchError if torch would meet microbatches of different sizes."""
    flat = [size for share in sizes for size in share]
    if worker == "torch" and train and len(set(flat)) > 1:
        raise BatchError(
            f"{sum(flat)} rows make microbatches of {', '.join(map(str, flat))} rows, and "
            f"torch.distributed.pipelining has buffers of one size: give a multiple of {len(flat)} "
            f"rows, or leave worker='torch' out"
        )


def check_autocast(options: Options) -> None:
    """Raise PipelabError where torch.autocast is on in this process, but not on the ranks."""
    device = options.place.device
    if under_torchrun() or not torch.is_autocast_enabled(device):
        return
    dtype = torch.get_autocast_dtype(device)
    if dtype is not options.autocast:
        raise PipelabError(
            f"torch.autocast({device!r}, {dtype}) is on here, and does not reach the ranks:\n"
            f"give Pipeline(..., autocast={dtype}), or call it outside of torch.autocast"
        )


def check_same_stages(old: Schedule, new: Schedule) -> None:
    """Raise ScheduleError if the running ranks cannot follow another schedule."""
    if new.num_ranks != old.num_ranks:
        raise ScheduleError(
            f"the schedule is for {new.num_ranks} ranks, this pipeline runs {old.num_ranks}: "
            f"open a new Pipeline for it"
        )
    if new.rank_of_stage != old.rank_of_stage:
        raise ScheduleError(
            f"the schedule puts the stages elsewhere ({_places(new)}; here {_places(old)}): "
            f"open a new Pipeline for it"
        )


def check_times(timeout: float, idle_timeout: float | None) -> None:
    """Raise PipelabError for a time that is no time."""
    for name, seconds in (("timeout", timeout), ("idle_timeout", idle_timeout)):
        if seconds is not None and not 0.0 < seconds <= _LONGEST:
            raise PipelabError(f"{name}={seconds}: give seconds, above 0 and at most {_LONGEST:g}")


def closed(why: str) -> PipelineClosed:
    """The error of a pipeline that is used after its end."""
    because = f" ({why}; save() what you want to keep)" if why else ""
    return PipelineClosed(f"this pipeline is closed{because}: open a new Pipeline to continue")


def _places(schedule: Schedule) -> str:
    homes: Sequence[tuple[int, int]] = sorted(schedule.rank_of_stage.items())
    return ", ".join(f"stage {stage} on rank {rank}" for stage, rank in homes)
