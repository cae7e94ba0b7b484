"""The number of an open file, which travels to a new process as that file. Imports no torch."""


class OpenFile(int):
    """A file of this process. Where it is handed over it has another number (launch/child.py)."""
