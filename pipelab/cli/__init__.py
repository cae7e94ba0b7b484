"""The command ``pipelab``: demo, lab, show, simulate, compare, progress, edition, doctor.

    main              every command and its options; an error becomes a few clean lines
    console           lines that are flushed at once, progress line, output folder, Ctrl-C

    demo              trains on four ranks and shows one step  >  recordings
    course            lab (JupyterLab), progress, editions
    show              prints a schedule, by name or from a file
    predict           simulate: one schedule or all            >  show, prices
    compare_engines   compare: pipelab and PyTorch             >  show, prices, recordings
    doctor            says what this machine can do            >  machine

Nothing heavy is loaded before a command runs. The entry is ``pipelab.cli.main.main``.
"""

__all__: list[str] = []
