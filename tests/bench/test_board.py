import io

from leaf_fer.bench.board import Board


class Terminal(io.StringIO):
    """A terminal, as far as the board needs one: what is on the screen."""

    def __init__(self):
        super().__init__()
        self.lines = [""]

    def isatty(self):
        return True

    def fileno(self):
        return 2

    def write(self, text):
        if text.startswith("\x1b["):
            up, text = text.removeprefix("\x1b[").split("F\x1b[J", 1)
            self.lines = [*self.lines[: -int(up) - 1], ""]
        *whole, rest = text.split("\n")
        for line in whole:
            self.lines[-1:] = [line, ""]
        self.lines[-1] += rest
        return len(text)


def test_the_table_is_redrawn_in_place_under_the_lines_that_stay(monkeypatch):
    monkeypatch.setattr("os.get_terminal_size", lambda number: (16, 5))
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    board = Board(screen)
    board.draw(["0 of 2", "a", "b"])
    board.say("finished a")
    board.draw(["1 of 2", "b is too long to fit"])
    assert screen.lines == ["finished a", "1 of 2", "b is too long t", ""]
    board.draw(["1 of 2", *"abcde"])
    assert screen.lines == ["finished a", "1 of 2", "a", "b", "... and 3 more", ""]
    board.leave()
    board.draw(["2 of 2"])
    board.draw([])
    assert screen.lines == ["finished a", "1 of 2", "a", "b", "... and 3 more", ""]
