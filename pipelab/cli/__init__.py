"""The command ``pipelab``: demo, lab, doctor.

    main      arguments in, exit code out; an error becomes a few clean lines
    signals   Ctrl-C at any moment: one line, exit code 130, nothing left running
    terminal  lines that are flushed at once, and the progress line

    demo      trains on four ranks and shows one step  >  recordings, report, folder
    lab       opens JupyterLab at a lesson             >  lessons, server
    doctor    says what this machine can do            >  findings, machine, ranks, jupyter

Nothing heavy is loaded before a command runs. The entry is ``pipelab.cli.main.main``.
"""

__all__: list[str] = []
