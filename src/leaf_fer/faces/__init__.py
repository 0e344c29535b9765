"""Detection and alignment of the faces of photos and videos."""
