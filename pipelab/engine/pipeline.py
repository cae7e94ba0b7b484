"""A pipeline: a schedule and a model become training on real ranks, and a trace of each step."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipelab.engine.driver import checkpoint as saved
from pipelab.engine.driver import checks, optimizer_trial, plan
from pipelab.engine.driver.batches import check_batch
from pipelab.engine.driver.check_model import check_model
from pipelab.engine.driver.check_tensors import check_tensors
from pipelab.engine.driver.compiled import compilation_named, compiled_parts
from pipelab.engine.driver.microbatches import Count, Rule, share_out, slice_tokens
from pipelab.engine.driver.model_state import ModelState
from pipelab.engine.driver.option_kinds import check_cut, check_kinds
from pipelab.engine.driver.prefetch import Prefetch
from pipelab.engine.driver.result import StepResult, merged, setting_of
from pipelab.engine.driver.resume import check_savable
from pipelab.engine.in_flight import StepInFlight, StepsInFlight, follow_each_other
from pipelab.engine.protocol.commands import (
    Done,
    Fetch,
    Loss,
    LrSchedule,
    Optimizer,
    Options,
    Run,
)
from pipelab.engine.protocol.device import choose
from pipelab.engine.protocol.forks import compute_alone
from pipelab.engine.protocol.progress import Begun
from pipelab.engine.ranks import describe, start_ranks
from pipelab.notice import noticed
from pipelab.partition import cut, whole_model
from pipelab.partition.chain import Model
from pipelab.partition.sharing import find_sharing
from pipelab.partition.split import SplitAs
from pipelab.partition.tree import join
from pipelab.schedules import Schedule
from pipelab.schedules.communication import Lowered, lower
from pipelab.simulator import Cost
from pipelab.words import number

_LOWERED = 8  # schedules that a pipeline keeps with their messages


class Pipeline:
    """A model cut into stages on ranks, one process each, which follow a schedule.

    Use it in a ``with`` block: when it ends, also by an error, no process is left.

    Args:
        model: an ``nn.Sequential``, a list of modules, or the stages that ``split`` gives. Ranks
            train copies of its layers.
        schedule: what each rank runs, in which order; each rank is a process.
        loss: ``loss(output, target)`` -> scalar tensor, the mean over the rows it was given.
        optimizer: called with each stage's parameters (``partial(torch.optim.SGD, lr=0.1)``), and
            with ``names=`` theirs in the model, if it has such an argument.
        replicas: copies of the pipeline, each on its ranks and rows; gradients are averaged.
        pace: keep all actions and messages to this cost, as a device of that speed would.
        overlap: False makes sends block until their message has arrived.
        memory_budget: bytes that a rank may hold; with more, it fails as a device would.
        checkpoint: True, or the stages that keep only their input and run forward twice.
        count: for a microbatch's targets, how many terms its loss averages; without it, rows.
        reduction: ``"sum"`` for a loss that adds up its terms; gradients are still averaged.
        clip_norm: clip the gradients to this norm of the *whole* model before each update.
        lr_schedule: called with each stage's optimizer (``partial(StepLR, step_size=10)``). One
            that wants a loss, as ReduceLROnPlateau does, gets that of the step that updates.
        autocast: the dtype of forwards, ``torch.bfloat16``, or ``torch.float16`` with loss scale.
        seed: of random layers; each stage and microbatch draws other numbers.
        record: False leaves events out: traces are empty, and steps slightly faster.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: GPUs where there are any.
        worker: ``"torch"`` lets torch.distributed.pipelining run the steps; they are recorded too.
        timeout: seconds that any wait may take before the step is given up.
        idle_timeout: seconds without a call after which the processes end; None: never.
        stop_at_nan: fail where a stage first gives a NaN or an infinity; else the loss shows it.
        split: where to cut: ``"time"`` or ``"memory"`` balances that and not parameters; a list of
            numbers of layers, or of the names of layers that begin a stage, is a cut of your own,
            and so is a layout of Megatron-LM's, ``"E t*3 | t*4 L"``.
        sample: the input of one microbatch, which ``split="time"`` and ``"memory"`` measure on.

    Raises:
        PipelabError: a schedule, model or loss that cannot run, before any process starts.
    """

    def __init__(
        self,
        model: Model,
        schedule: Schedule,
        *,
        loss: Loss,
        optimizer: Optimizer | None = None,
        replicas: int = 1,
        pace: Cost | None = None,
        overlap: bool = True,
        memory_budget: int | None = None,
        checkpoint: bool | Collection[int] = False,
        count: Count | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        clip_norm: float | None = None,
        lr_schedule: LrSchedule | None = None,
        autocast: torch.dtype | None = None,
        seed: int = 0,
        record: bool = True,
        device: str = "auto",
        worker: Literal["pipelab", "torch"] = "pipelab",
        timeout: float = 30.0,
        idle_timeout: float | None = None,
        stop_at_nan: bool = False,
        split: SplitAs | None = None,
        sample: Any = None,
    ):
        check_kinds(
            replicas=replicas, pace=pace, memory_budget=memory_budget, checkpoint=checkpoint,
            count=count, reduction=reduction, clip_norm=clip_norm, autocast=autocast, seed=seed,
            timeout=timeout, idle_timeout=idle_timeout,
        )  # fmt: skip
        compute_alone()
        checks.check_times(timeout, idle_timeout)
        lowered = self._lower(schedule)
        schedule = lowered.schedule
        checks.check_training(replicas, clip_norm, checkpoint, schedule.num_stages)
        self._num_processes = schedule.num_ranks * replicas
        self._options = Options(
            loss=loss,
            optimizer=optimizer,
            lr_schedule=lr_schedule,
            clip_norm=clip_norm,
            memory_budget=memory_budget,
            checkpoint=checkpoint,
            autocast=autocast,
            seed=seed,
            record=record,
            stop_at_nan=stop_at_nan,
            place=choose(device, self._num_processes, worker),
            worker=worker,
        )
        checks.check_schedule(schedule, pace, self._options)
        checks.check_worker(self._options, schedule.num_ranks, replicas, pace, overlap)
        modules = self._cut(model, schedule.num_stages, split, sample)
        self._rule = Rule(count, reduction)
        checks.check_loss(loss, reduction)
        self._options = optimizer_trial.tried(self._options, modules, self._sharing.ties)
        self.schedule = schedule
        self.replicas = replicas
        self.pace = pace
        self.overlap = overlap
        self._loss_is_tried = False
        self._steps = 0
        self._accumulating = False  # gradients of steps with ``update=False`` wait for an update
        self._ranks = start_ranks(self._num_processes, replicas, timeout, idle_timeout)
        self._build(modules, lowered)

    def step(self, inputs: Any, targets: Any, *, update: bool = True) -> StepResult:
        """Train on one batch: all microbatches forward and backward, then one optimizer step.

        The gradient is that of the mean loss over all rows of the batch. The batch is cut into
        microbatches by rows, as equal as possible, the larger ones first.

        Args:
            inputs: a tensor, rows first, or a tuple or dict of such tensors, which the first
                layer gets as positional or keyword arguments; flags, numbers and None too.
                ``Rows(x, dim=1)`` has its rows elsewhere, ``Whole(mask)`` is not cut.
            targets: the loss's second argument: a tensor, tuple or dict, likewise.
            update: False leaves the optimizer's step out; the next step adds its gradients.

        Raises:
            BatchError: an empty batch, or fewer rows than microbatches.
            RankError: a rank failed; the pipeline is closed then.
        """
        return self._step(inputs, targets, update)

    def train(
        self, batches: Iterable[tuple[Any, Any]], *, in_flight: int = 1
    ) -> Iterator[StepResult]:
        """A step on each (inputs, targets), results in order.

        The next batch is fetched while the ranks still work on the last one. With
        ``in_flight=k`` up to ``k`` steps are given to the ranks before the first result is back:
        each rank begins the next step as soon as its own part of this one has ended, and the idle
        time at the end of one step is used by the next. Memory for batches grows with ``k``. Other
        calls, such as ``evaluate`` within the loop, come after all steps in flight.

        Raises:
            BatchError: a batch is no tuple or list of two; and what ``step`` raises.
        """
        checks.check_in_flight(in_flight)
        ahead = Prefetch(batches)

        def begin() -> StepInFlight:
            return self._begin_step(*next(ahead), update=True)

        def result(step: StepInFlight) -> StepResult:
            return self._result(step, meanwhile=ahead.fetch)

        return follow_each_other(begin, result, in_flight)

    def evaluate(self, inputs: Any, targets: Any) -> float:
        """The mean loss over a batch, in eval mode; nothing is trained."""
        checks.check_targets(targets)
        return sum(a.loss or 0.0 for a in self._run(inputs, targets, train=False))

    def predict(self, inputs: Any, *, dim: int = 0) -> Any:
        """The model's output for a batch, in eval mode: (rows, ...), or rows in ``dim``."""
        answers = self._run(inputs, None, train=False, collect=True, output_dim=dim)
        outputs = [answer.outputs for answer in answers if answer.outputs is not None]
        return join(outputs).unflatten()

    def use(self, schedule: Schedule) -> None:
        """Follow another schedule from the next step on: same stages, no relaunch.

        Raises:
            ScheduleError: it cannot run (see ``validate``), or has other ranks or stages.
        """
        lowered = self._lower(schedule)
        checks.check_same_stages(self.schedule, lowered.schedule)
        checks.check_schedule(lowered, self.pace, self._options)
        self._follow(lowered)

    @cached_property
    def _kept(self) -> Callable[[Schedule, int], Lowered]:
        return lru_cache(_LOWERED)(lambda schedule, slices: lower(schedule))

    def _lower(self, schedule: Schedule) -> Lowered:
        """As ``lower``; the last ones are kept, for a schedule that is used again."""
        try:  # two that differ in their slices alone are equal
            return self._kept(schedule, schedule.slices)
        except (TypeError, AttributeError):  # it has no hash, or is no schedule at all
            return lower(schedule)

    def _follow(self, lowered: Lowered) -> None:
        self._ask(
            plan.uses(
                lowered, self.replicas, self.pace, self.overlap, self._options, self._sharing.ties
            )
        )
        self.schedule = lowered.schedule

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last step, or all since the last update, by the model's names."""
        # until an update, each replica knows only what its own rows have given
        found = merged(self._fetch("gradients"), add=self._accumulating)
        return {name: found[name] for name in self._names if name in found}

    def state_dict(self) -> dict[str, Tensor]:
        """The model's parameters and buffers as they are now, under its own names.

        And the extra state of its layers (``get_extra_state``), which may be no tensor.
        """
        return self._state.in_order(merged(self._fetch("parameters")))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load parameters and buffers, by the model's own names; optimizers stay as they are.

        Each layer loads its part by its own ``load_state_dict``.

        Raises:
            CheckpointError: names or shapes that are not this model's.
        """
        self._load(state, None)

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write the whole training to ``folder``: parameters, optimizer state, steps so far.

        ``torch.load(path)["model"]`` is a state_dict for the plain model.

        Raises:
            CheckpointError: gradients of steps with ``update=False`` wait, and would be lost; or
                the optimizer keeps what a file cannot give back.
        """
        saved.check_whole(self._accumulating)
        optimizer = merged(self._fetch("optimizer"))
        check_savable(optimizer)
        return saved.save(Path(folder), saved.Checkpoint(self.state_dict(), optimizer, self._steps))

    def load(self, folder: str | PathLike[str]) -> None:
        """Load what ``save`` wrote, also into another schedule or number of stages.

        By the parameters' names; an optimizer or a schedule of rates that it lacks starts anew.

        Raises:
            CheckpointError: no checkpoint, a damaged one, or another model's.
        """
        found = saved.load(Path(folder))
        self._load(
            *saved.for_stages(
                found, merged(self._fetch("shapes")), merged(self._fetch("optimizer"))
            )
        )
        self._steps = found.steps

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the ranks, in rank order; empty once closed."""
        return self._ranks.pids

    @property
    def begun(self) -> tuple[Begun, ...]:
        """What each rank began last, and when, also while another thread waits for a step."""
        return self._ranks.begun()

    def close(self) -> None:
        """End all processes. May be called twice."""
        self._ranks.close()

    def __repr__(self) -> str:
        return describe(getattr(self, "_ranks", None), getattr(self, "_num_processes", 0))

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _cut(
        self, model: Model, num_stages: int, split: SplitAs | None, sample: Any
    ) -> list[nn.Module]:
        """The stages of a model, whose names we keep."""
        check_cut(split)
        whole = whole_model(model)
        check_tensors(whole)
        stages = cut(model, num_stages, split, sample)
        check_model(model, stages, self._options)
        self._sharing = find_sharing(stages, self._options.loss)
        self._compiled = compiled_parts(stages, self._options.loss)
        self._state = ModelState(whole)
        self._names = [name for name, _ in whole.named_parameters()]
        self._num_trained = sum(p.requires_grad for p in whole.parameters())
        return stages

    def _build(self, modules: list[nn.Module], lowered: Lowered) -> None:
        self._in_flight = StepsInFlight(self._ranks)
        try:
            self._ask(plan.builds(modules, lowered, self.replicas, self._options, self._sharing))
            self._follow(lowered)
            self._ranks.ready(meet_again=self._options.place.is_ordered)
        except BaseException:  # a Ctrl-C too: nobody has this pipeline yet, to close it
            self.close()
            raise

    def _step(
        self, inputs: Any, targets: Any, update: bool, profiled: bool = False, folder: str = ""
    ) -> StepResult:
        self._in_flight.finish_all()
        return self._result(self._begin_step(inputs, targets, update, profiled, folder))  # [13]

    def _begin_step(
        self, inputs: Any, targets: Any, update: bool, profiled: bool = False, folder: str = ""
    ) -> StepInFlight:
        """Give the ranks one step, behind those that they have."""
        checks.check_trains(self._num_trained, len(self._names))
        checks.check_targets(targets)
        commands = self._commands(
            inputs, targets, train=True, fresh=not self._accumulating, update=update,
            number=self._steps, profiled=profiled, profile_folder=folder,
        )  # fmt: skip
        self._check_open()
        setting = setting_of(
            self.schedule, self.replicas, self._options, self.pace, self._ranks.clock_error
        )
        with compilation_named(self._compiled):
            step = self._in_flight.start(commands, self._steps, setting)  # [3]
        self._steps += 1
        self._accumulating = not update
        return step

    def _result(
        self, step: StepInFlight, meanwhile: Callable[[], None] | None = None
    ) -> StepResult:
        """Do something meanwhile, and wait for a step's result."""
        try:
            if meanwhile is not None:
                meanwhile()
            with compilation_named(self._compiled), self._at_work():
                return self._in_flight.result(step)
        except BaseException:
            self.close()
            raise

    def _run(self, inputs: Any, targets: Any, **options: Any) -> list[Done]:
        return self._ask(self._commands(inputs, targets, **options))

    def _commands(self, inputs: Any, targets: Any, **options: Any) -> list[Run]:
        """What each rank gets of a batch."""
        checks.check_autocast(self._options)
        m = self.schedule.num_microbatches
        smallest = m * self.replicas
        flat = check_batch(inputs, targets, smallest, options["train"])  # [1]
        slices = self.schedule.slices if options["train"] else 1
        options["tokens"] = slice_tokens(*flat[:2], slices, self.schedule.shares)
        shares = share_out(  # [2]
            *flat, m, self.replicas, self._rule, not (self._loss_is_tried or options["tokens"]),
            options["tokens"],
        )  # fmt: skip
        self._loss_is_tried |= any(share.trial for share in shares)
        checks.check_even(self._options.worker, options["train"], [s.sizes for s in shares])
        options["signature"] = flat[0].signature
        return plan.runs(shares, self.schedule, options)

    def _load(self, parameters: dict[str, Tensor], optimizer: dict[str, Any] | None) -> None:
        shapes = self._fetch("shapes")
        self._state.check(merged(shapes), parameters)
        saved.check_ties(self._sharing.ties, parameters)
        held = [answer.found.keys() for answer in shapes]
        self._ask(plan.loads(parameters, optimizer, held, self.schedule))
        self._accumulating = False  # gradients of other parameters are of no use to these

    def _fetch(self, what: str) -> list[Done]:
        return self._ask_all(Fetch(what))

    def _ask_all(self, command: object) -> list[Done]:
        """Give all ranks the same command."""
        return self._ask([command] * self._num_processes)

    def _ask(self, commands: Sequence[object]) -> list[Done]:
        self._check_open()
        with compilation_named(self._compiled), self._at_work():
            self._in_flight.finish_all()
            return self._ranks.ask(commands)

    def _at_work(self) -> AbstractContextManager[None]:
        return noticed(f"{number(self._num_processes, 'rank')} at work")

    def _check_open(self) -> None:
        if self._ranks.is_closed:
            raise checks.closed(self._ranks.why_closed)
