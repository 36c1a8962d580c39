#!/usr/bin/env python3
"""Runs a command on a terminal of its own (a pty) and plays a person at it.

    terminal.py [--columns N] [--limit SECONDS] [--log FILE] ACTION… -- COMMAND…

An action is `expect TEXT` (wait until the terminal shows it), `type TEXT` (with \\n for Enter and ^C for Ctrl-C),
`signal NAME` (to the command alone), `hangup` (the terminal goes away) or `pause SECONDS`. What the terminal showed goes
to FILE. Exits with the command's own code, 128 and the signal that ended it, or 99 with a word where an expectation or
the limit was missed.
"""
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

from processes import end_in_order


def main(arguments):
    columns, limit, log = 80, 60.0, None
    actions = []
    while arguments and arguments[0] != "--":
        word = arguments.pop(0)
        if word == "hangup":
            actions.append((word, ""))
            continue
        value = arguments.pop(0)
        if word == "--columns":
            columns = int(value)
        elif word == "--limit":
            limit = float(value)
        elif word == "--log":
            log = value
        else:
            actions.append((word, value))
    command = arguments[1:]
    # Below a signal that the caller ignores (a shell's background job) the command would ignore it too.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    process, master = pty.fork()
    if process == 0:
        os.execvp(command[0], command)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    end_in_order()
    person = Person(process, master, log, time.monotonic() + limit)
    try:
        return person.play(actions)
    finally:
        person.leave()


class Person:
    def __init__(self, process, master, log, deadline):
        self.process, self.master, self.log, self.deadline = process, master, log, deadline
        self.shown, self.read_until, self.code = b"", 0, None

    def play(self, actions):
        for action, value in actions:
            if action == "expect":
                wanted = value.encode()
                while wanted not in self.shown[self.read_until:]:
                    if self.code is not None or time.monotonic() > self.deadline:
                        return self.miss(f"the terminal never showed {value!r}")
                    self.look()
                self.read_until = self.shown.index(wanted, self.read_until) + len(wanted)
            elif action == "type":
                os.write(self.master, value.replace("\\n", "\n").replace("^C", "\x03").encode())
            elif action == "signal":
                os.kill(self.process, getattr(signal, "SIG" + value))
            elif action == "pause":
                end = time.monotonic() + float(value)
                while time.monotonic() < end and self.code is None:
                    self.look()
            elif action == "hangup":
                os.close(self.master)
                self.master = None
        while self.code is None:
            if time.monotonic() > self.deadline:
                return self.miss("the command did not end")
            self.look()
        self.save()
        return self.code

    def look(self):
        if self.master is not None:
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                try:
                    self.shown += os.read(self.master, 65536)
                    return
                except OSError:
                    pass
        else:
            time.sleep(0.1)
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if ended:
            self.code = os.waitstatus_to_exitcode(status)
            if self.code < 0:
                self.code = 128 - self.code

    def leave(self):
        """Nobody is left at the terminal, whatever went wrong."""
        if self.code is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            self.code = 128 + signal.SIGKILL

    def miss(self, what):
        self.save()
        self.leave()
        print(f"{what}; the last it showed:\n{self.shown[-1500:].decode(errors='replace')}")
        return 99

    def save(self):
        if self.log:
            with open(self.log, "wb") as file:
                file.write(self.shown)


sys.exit(main(sys.argv[1:]))
