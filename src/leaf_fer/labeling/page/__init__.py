"""The page of ``leaf label``."""
