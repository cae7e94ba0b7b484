"""The command ``pipelab``: demo, lab, show, simulate, progress, edition, doctor.

    main      arguments in, exit code out; an error becomes a few clean lines
    options   every command, its options and their help
    signals   Ctrl-C at any moment: one line, exit code 130, nothing left running
    terminal  lines that are flushed at once, and the progress line

    demo      trains on four ranks and shows one step  >  recordings, report, folder
    lab       opens JupyterLab at a lesson             >  lessons, server
    show      prints a schedule                        >  sources
    simulate  predicts one, or compares them all       >  sources, prices, comparison, best
    course    progress, and editions of the lessons
    doctor    says what this machine can do            >  findings, machine, ranks, jupyter

Nothing heavy is loaded before a command runs. The entry is ``pipelab.cli.main.main``.
"""

__all__: list[str] = []
