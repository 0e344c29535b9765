"""From photos, videos and cameras to faces: cut out, named, drawn."""
