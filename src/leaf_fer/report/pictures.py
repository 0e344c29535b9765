"""The pictures of a report: confusion matrices, learning curves and sheets of faces.

All are written atomically, as SVG if the path ends with ``.svg`` and as PNG otherwise. They use
colors that color-blind readers can tell apart, and never color alone.
"""

from leaf_fer.report.curves import learning_curves
from leaf_fer.report.matrix import confusion_matrix
from leaf_fer.report.sheets import contact_sheet, prediction_sheet

__all__ = ["confusion_matrix", "contact_sheet", "learning_curves", "prediction_sheet"]
