"""The process that asks: checks, microbatches, the plan for all ranks, results, checkpoints."""
