"""Images a second that `read_image` gives, by the number of threads that read.

    python3 bench/read_threads.py IMAGE.jpg

To compare two versions, run it with the PYTHONPATH of each, in turns.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from yoloship.images import read_image

ROUNDS = 3


def main(image: str) -> None:
    for threads in (1, 8, 16):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: read_image(image).shape, range(2 * threads)))
            rates = []
            for _ in range(ROUNDS):
                count = 60 * threads
                started = time.perf_counter()
                list(pool.map(lambda _: read_image(image).shape, range(count)))
                rates.append(count / (time.perf_counter() - started))
        print(f"{threads} threads: {max(rates):.0f} images a second", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
