"""What a run has to show: pictures of its numbers and of its faces. No torch is needed."""

from leaf_fer.report.pictures import (
    confusion_matrix,
    contact_sheet,
    learning_curves,
    prediction_sheet,
)

__all__ = ["confusion_matrix", "contact_sheet", "learning_curves", "prediction_sheet"]
