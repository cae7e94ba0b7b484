"""Opens pipelines, steps and closes, again and again; says where it is. To be interrupted."""

import time

import torch
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b

X, Y = torch.randn(12, 16), torch.randint(10, (12,))


def once():
    with Pipeline(mlp(), one_f_one_b(3, 4), loss=cross_entropy) as pipeline:
        print("pids", *pipeline.pids, flush=True)
        for _ in range(3):
            pipeline.step(X, Y)


def main():
    once()
    print("ready", flush=True)
    while True:
        try:
            while True:
                once()
        except KeyboardInterrupt:
            interrupted = time.monotonic()
            with Pipeline(mlp(), one_f_one_b(3, 4), loss=cross_entropy) as pipeline:
                pipeline.step(X, Y)
                print("again", time.monotonic() - interrupted, flush=True)


if __name__ == "__main__":
    main()
