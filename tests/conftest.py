"""For all tests."""

import signal

import hypothesis

# The machine may be busy: how long an example takes says nothing about what is right.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# A background job of a shell inherits a silenced SIGINT, what nohup starts a silenced SIGHUP, and
# both hand it on to the programs that the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
