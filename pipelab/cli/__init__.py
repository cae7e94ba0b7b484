"""The command ``pipelab``: demo, lab, show, simulate, compare, progress, edition, doctor.

    main       arguments in, exit code out; an error becomes a few clean lines
    options    every command, its options and their help
    console    lines that are flushed at once, the progress line, Ctrl-C

    demo       trains on four ranks and shows one step  >  recordings, folder
    notebook_server    lab: a lesson in JupyterLab     >  course
    course     progress, and editions of the lessons
    show       prints a schedule, by name or from a file
    predict    simulate: one schedule or all            >  show, prices
    compare_engines    compare: pipelab and PyTorch     >  show, prices, folder
    doctor     says what this machine can do            >  machine, jupyter

Nothing heavy is loaded before a command runs. The entry is ``pipelab.cli.main.main``.
"""

__all__: list[str] = []
