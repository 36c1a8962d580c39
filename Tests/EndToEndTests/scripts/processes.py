"""What the test programs in Python share about the processes that they start: an end in order, and answers with a limit."""
import os, select, signal, sys, time


def end_in_order():
    """SIGTERM ends the program as an exception does: every `finally` is run. Once: whoever ends a group of processes may
    send it twice, and what cleans up is not to be stopped by the second."""
    def end(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)


class Lines:
    """The lines that a process writes to a pipe, each waited for no longer than a limit."""

    def __init__(self, pipe):
        self.pipe, self.rest = pipe, b""

    def next(self, seconds):
        """The next line; empty where the other end hung up. TimeoutError where nothing came."""
        until = time.monotonic() + seconds
        while b"\n" not in self.rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.pipe], [], [], left)[0]:
                raise TimeoutError(f"no answer within {seconds} s")
            more = os.read(self.pipe.fileno(), 65536)
            if not more:
                return ""
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()
