"""Commands that answer over HTTP, in processes of their own."""

import signal
import subprocess
import sys
from contextlib import contextmanager

from tests.conftest import PATIENCE


class Program:
    """A Python program that says where it can be reached.

    Attributes:
        address: what it said.
    """

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, words), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("open http://"), line + self.process.stderr.read()
        self.address = line.split()[1]

    def kill(self):
        """As ``kill -9`` does: nothing can be saved any more."""
        self.process.kill()
        self.close()

    def stop(self):
        """As Ctrl-C does: status, standard output, standard error."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self):
        """Wait for the end: status, standard output, standard error."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextmanager
def starting(kind):
    """Makes programs of a kind; all are ended in the end."""
    started = []

    def begin(*words):
        started.append(kind(*words))
        return started[-1]

    yield begin
    for program in started:
        program.close()
