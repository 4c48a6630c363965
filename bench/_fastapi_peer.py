"""A server as people write one: FastAPI around ONNX Runtime, one image at a time. `bench/serve_load.py` measures it."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()
session: Any = None
SIDE = 640


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """Decode, letterbox, run, suppress: all in the event loop, as most examples do."""
    image = cv2.imdecode(np.frombuffer(await request.body(), np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    ratio = min(SIDE / height, SIDE / width)
    resized = cv2.resize(image, (round(width * ratio), round(height * ratio)))
    top, left = (SIDE - resized.shape[0]) // 2, (SIDE - resized.shape[1]) // 2
    canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
    canvas[top : top + resized.shape[0], left : left + resized.shape[1]] = resized
    blob = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)
    rows = session.run(None, {session.get_inputs()[0].name: blob})[0][0]
    scores = rows[:, 5:] * rows[:, 4:5]
    classes = scores.argmax(1)
    best = scores.max(1)
    kept = best > 0.25
    rows, classes, best = rows[kept], classes[kept], best[kept]
    boxes = np.stack([rows[:, 0] - rows[:, 2] / 2, rows[:, 1] - rows[:, 3] / 2, rows[:, 2], rows[:, 3]], 1)
    found = cv2.dnn.NMSBoxesBatched(boxes.tolist(), best.tolist(), classes.tolist(), 0.25, 0.45) if len(boxes) else []
    return {
        "detections": [
            {
                "class": int(classes[i]),
                "score": float(best[i]),
                "box": [
                    (float(boxes[i][0]) - left) / ratio,
                    (float(boxes[i][1]) - top) / ratio,
                    float(boxes[i][2]) / ratio,
                    float(boxes[i][3]) / ratio,
                ],
            }
            for i in found
        ]
    }


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
