"""For all tests."""

import signal

# A background job of a shell inherits a silenced SIGINT, what nohup starts a silenced SIGHUP, and
# both hand it on to the programs that the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
