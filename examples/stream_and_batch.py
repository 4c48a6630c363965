"""Many images: a batch that fits in memory, and a stream that may have any length.

    python examples/stream_and_batch.py

It prints a line for each image, and checks that both ways give the same boxes.
"""

import cv2
from _demo import demo_images, demo_model

import yoloship


def main() -> None:
    """Run the same images both ways."""
    paths = demo_images(8)

    # throughput: several images at once, one thread each. latency (the default): one image at a time, all cores.
    with yoloship.load(demo_model(), tuned_for="throughput") as detector:
        # All images of a batch are in memory at the same time. They may have different sizes.
        images = [cv2.imread(str(path)) for path in paths]
        batch = detector.detect_batch(images)

        # A stream reads ahead, holds a few images at a time, and gives the results in the order of the sources.
        # A source may be a path, bytes, an array or a PIL image; a generator is read only as fast as you take results.
        for outcome in detector.stream(iter(paths), keep_images=True):
            found = outcome.unwrap()  # raises the error of an image that could not be read
            assert found == batch[outcome.index]
            assert outcome.image is not None  # because of keep_images
            print(f"{outcome.source}: {len(found)} objects {found.counts()}")


if __name__ == "__main__":
    main()
