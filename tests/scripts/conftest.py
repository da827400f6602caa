"""For the tests of what is under `scripts/`."""

import signal

# Under `nohup` it is ignored, by what the tests start too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
