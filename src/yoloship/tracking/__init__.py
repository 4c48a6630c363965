"""Tracking: the same number for the same object in all frames of a video or camera, and counts of zones and lines."""
