"""From a picture to detections: letterbox, session, decode, NMS."""
