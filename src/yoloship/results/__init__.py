"""What a model answers: detections, and how they are drawn."""
