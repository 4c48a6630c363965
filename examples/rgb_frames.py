"""Frames from a decoder that gives RGB: say so, or the model sees blue where there is red.

    python examples/rgb_frames.py

OpenCV gives BGR. PyAV, imageio, Pillow, torchvision, decord and most GPU decoders give RGB. An array does not say
which it is. yoloship takes arrays as BGR, unless you say `channels="rgb"`. PIL images are RGB and need no hint.
"""

import cv2
from _demo import demo_images, demo_model

import yoloship


def main() -> None:
    """The same frame in both orders of channels gives the same boxes."""
    [path] = demo_images(1)
    bgr = cv2.imread(str(path))
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # in place of a frame from your decoder

    with yoloship.load(demo_model()) as detector:
        expected = detector(bgr)
        found = detector(rgb, channels="rgb")
        mistaken = detector(rgb)  # RGB taken as BGR: no error, only other numbers

    assert found == expected
    print(f"RGB, as said: {len(found)} objects, the same as from BGR")
    print(f"RGB, taken as BGR: {len(mistaken)} objects, the same: {mistaken == expected}")


if __name__ == "__main__":
    main()
