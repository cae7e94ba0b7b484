"""Memory that a rank frees stays with its process, for the next microbatch.

What one microbatch frees the next one takes again: activations, gradients, messages. The C library
gives large blocks back to the system, and the system clears each page of 4 kB that is asked for
again. Whether it does depends on where in the heap a block happens to be: with the medium GPT of
``pipelab.bench`` a rank was given 10 pages in each step, or 850.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # numbers of <malloc.h>
_BLOCK_BYTES = 32 << 20  # the most that glibc takes for it: larger blocks always come and go
_FREE_BYTES = 128 << 20


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 128 MB of it; nothing happens without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)
