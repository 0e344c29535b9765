"""``leaf live``: what is said of faces before a camera, at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from leaf_fer.faces.drawing import draw
from leaf_fer.faces.footage import Frame, Loss
from leaf_fer.rows import Rows
from leaf_fer.scenes.judging import Judge
from leaf_fer.scenes.looking import Looker
from leaf_fer.scenes.verdicts import columns, verdicts


def watch(
    seen: Iterator[Frame],
    looker: Looker,
    judge: Judge,
    classes: Sequence[str],
    *,
    style: str,
    out: Path | None,
    window: bool,
    abstain: bool = False,
    limit: int | None = None,
) -> int:
    """Judge faces as they are seen, until the camera, the user or a limit ends it.

    Args:
        seen: pictures of a camera; closed in the end.
        looker: finds faces.
        judge: classifies them; pictures must not wait for each other.
        classes: of the model.
        style: see :class:`~leaf_fer.rows.Rows`.
        out: file of the rows; None prints them, but not beside a window.
        window: show pictures.
        abstain: no label where several may be the true one.
        limit: pictures after which to stop.

    Returns:
        How many pictures were judged.

    Raises:
        UserError: no window can be opened, or the camera not.
    """
    count = 0
    with ExitStack() as stack:
        if isinstance(seen, Generator):
            stack.callback(seen.close)
        screen = None
        if window:
            from leaf_fer.scenes.window import Window

            screen = stack.enter_context(Window("leaf live"))
        rows = None
        if out is not None or not window:
            rows = stack.enter_context(Rows(style, columns(classes), out))
        try:
            # No looking ahead: what is shown is now.
            for one in judge.judge(looker.look(frame) for frame in islice(seen, limit)):
                assert not isinstance(one, Loss)
                count += 1
                found = verdicts(one, classes)
                found = [verdict.unsure() for verdict in found] if abstain else found
                if rows is not None:
                    for verdict in found:
                        rows.add(verdict)
                    rows.flush()
                if screen is not None:
                    captions = [verdict.caption() for verdict in found]
                    image = draw(one.sight.frame.image, one.sight.faces.boxes, captions)
                    if not screen.show(image):
                        break
        except KeyboardInterrupt:  # how people end it: what was written is whole
            pass
    return count
