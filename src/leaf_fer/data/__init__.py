"""From files to batches: readers, the store of decoded images, splits and views."""
