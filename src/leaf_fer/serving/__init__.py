"""``leaf serve``: a model that answers over HTTP, and a page to drop a photo on."""
