"""Recorded pipelines from elsewhere: other people's files become our events.

reading.py     which form the files have; one recording out of all of them
stream.py      the events of one JSON file, however large, one after another
ndtimeline.py  ndtimeline (veScale), StragglerAnalysis
numbering.py   ... and steps, chunks and microbatches by order, where they have no numbers
kineto.py      torch.profiler around torch.distributed.pipelining ...
computed.py    ... and which part of its ranges was computation, on the host or the GPU
megatron.py    Megatron's OpenTelemetry spans
perfetto.py    what ``Trace.to_chrome`` wrote
gathered.py    what all of them give: things done by ranks, in steps and replicas
alignment.py   clocks of several hosts, aligned by the messages themselves
"""
