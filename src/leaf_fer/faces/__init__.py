"""Faces in photos and videos: found, followed and drawn."""
