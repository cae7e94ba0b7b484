"""Benchmarks for those who change pipelab; ``pipelab.bench`` has the two for its users.

python -m tests.benchmarks grid       one step against torch's: 5 schedules, p 2-8, m 4-32
python -m tests.benchmarks messages   one way of 1 kB to 4 MB: ours, gloo's, the limit
python -m tests.benchmarks memory     bytes of each rank, against torch's
python -m tests.benchmarks tracing    a step that is recorded, against one that is not
python -m tests.benchmarks recording  a script's own step under torchrun, recorded against plain
python -m tests.benchmarks soak       many pipelines, many steps: is anything left or growing?
python -m tests.benchmarks page       processor's time of browser and kernel around one run
python -m tests.benchmarks simulate   larger and larger schedules: does the time stay flat?
"""
