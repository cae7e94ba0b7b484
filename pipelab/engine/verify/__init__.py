"""Compare every gradient of a pipeline with those of one process, in two columns.

    the same microbatches   a plain loop over them: bit for bit, if backwards keep their order
    the whole batch         one forward and one backward: within rounding, unless a layer mixes rows

The first column says that the pipeline computes what its microbatches should give, the second that
these give what the whole batch gives. A layer that looks at several rows at once (BatchNorm, a mean
over the batch, attention with rows in the wrong dimension) shows in the second alone, and is named.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from pipelab.engine.driver.batches import check_batch
from pipelab.engine.driver.microbatches import Rule
from pipelab.engine.pipeline import Pipeline
from pipelab.engine.protocol.commands import Loss
from pipelab.engine.ranks import threads
from pipelab.engine.verify.gradient_report import GradientReport, compared
from pipelab.engine.verify.mixing import row_mixing
from pipelab.engine.verify.reference import Batch, Found, Reference
from pipelab.errors import PipelabError
from pipelab.partition import cut
from pipelab.schedules import Schedule
from pipelab.threads import num_threads

__all__ = ["GradientReport", "verify_gradients"]

_AFTER_GRADIENTS = ("optimizer", "lr_schedule", "clip_norm")


def verify_gradients(
    model: nn.Module | list[nn.Module],
    schedule: Schedule,
    inputs: Any,
    targets: Any,
    loss: Loss,
    **options: Any,
) -> GradientReport:
    """Run one step on real ranks and in one process; compare all gradients.

    The one process runs a plain loop over the same microbatches, and then the whole batch at once,
    each on a copy of the model, on the ranks' kind of device.
    ``options`` are those of ``Pipeline``, such as ``replicas=2``; of these, the one process
    follows ``replicas``, ``count``, ``reduction``, ``autocast`` and ``seed``. The messages of a
    first step travel through host memory, also where later ones use NCCL (transport/p2p.py).

    Raises:
        PipelabError: an option that changes gradients after they are computed, or that acts after
            them: ``clip_norm``, ``optimizer``, ``lr_schedule``.
    """
    if found := [name for name in _AFTER_GRADIENTS if options.get(name) is not None]:
        raise PipelabError(
            f"verify_gradients compares gradients as they are computed:\n"
            f"{'=, '.join(found)}= acts on them later, leave {'them' if found[1:] else 'it'} out"
        )
    model = cut(model, schedule.num_stages, options.pop("split", None), options.pop("sample", None))
    with Pipeline(model, schedule, loss=loss, **options) as pipeline:
        ours = pipeline.step(inputs, targets)
        gradients = pipeline.gradients()
    m, replicas = schedule.num_microbatches, pipeline.replicas
    reference = Reference(
        model,
        loss,
        schedule.num_stages,
        Rule(options.get("count"), options.get("reduction", "mean")),
        options.get("autocast"),
        options.get("seed", 0),
        ours.trace.setting.device,
    )
    batch = check_batch(inputs, targets, m * replicas, train=True)
    with num_threads(threads(schedule.num_ranks * replicas)):
        loop = reference.gradients(batch, m, replicas)
        mixing = row_mixing(reference, batch, m, replicas)
        whole, problem = (None, "") if mixing.random else _of_whole(reference, batch)
        mixing = replace(mixing, problem=problem)
        report = compared(gradients, ours.loss, loop, whole, mixing, reference)
        if whole is not None and not report.is_whole:  # or is it rounding, made larger by a layer?
            nudged = reference.gradients(batch, 1, 1, nudged=True)
            report = compared(gradients, ours.loss, loop, whole, mixing, reference, nudged)
    return report


def _of_whole(reference: Reference, batch: Batch) -> tuple[Found | None, str]:
    """What the whole batch gives in one forward, or why it cannot be had."""
    try:
        return reference.gradients(batch, 1, 1), ""
    except Exception as error:  # it takes more memory than its microbatches, for one
        return None, f"{type(error).__name__}: {error}".splitlines()[0]
