"""How the faces of a data set were cut out, or will be."""

from __future__ import annotations

import numpy as np

from leaf_fer.data.table import FaceTable
from leaf_fer.recipe import Recipe, common


def recipe_of(table: FaceTable) -> Recipe | None:
    """What is known of the alignment of a data set.

    Points and boxes of the data set itself say it, else the file that ``leaf faces`` writes to a
    folder of crops.

    Raises:
        UserError: that file is damaged.
    """
    if table.points is not None and np.isfinite(table.points).any():
        return Recipe("points")
    if table.root is None or table.boxes is not None:
        return None  # drawn, or cut by boxes that no detector here draws alike
    return common(table.root, sorted({name.rpartition("/")[0] for name in table.names}))
