"""For the tests of what is under `scripts/`."""

import signal

# Under `nohup` the one is ignored and in the background of a script the other, by what the tests start too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
