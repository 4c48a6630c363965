"""An endless stream of fresh scenes into a pool on the training device.

Worker processes paint scenes into shared memory; a thread brings full chunks to the device; the training loop, between
two steps, moves them into the pool, where they replace the oldest. So no scene changes while a step reads it.
"""

from __future__ import annotations

import collections
import mmap
import multiprocessing as mp
import queue
import threading
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

CHUNK = 8
MAX_CODES = 40


def _work(seeds: tuple[int, int, int], side: int, buffers: list[Any], free: Any, full: Any, me: int) -> None:
    """Paint scenes for seeds first, first + step, … below last; then wait to be ended."""
    import cv2

    from yoloship.demo.scene import make_scene

    cv2.setNumThreads(1)
    views = [np.frombuffer(buffer, np.uint8).reshape(CHUNK, side, side, 3) for buffer in buffers]
    first, step, last = seeds
    seed = first
    while True:
        which = free.get()
        labels = []
        for place in range(CHUNK):
            scene = make_scene(seed, (side, side))
            views[which][place] = scene.image
            labels.append(np.column_stack([scene.class_ids, scene.boxes_xyxy / side]).astype(np.float32)[:MAX_CODES])
            seed += step
        full.put((me, which, labels))
        while seed >= last:
            time.sleep(60)


class ScenePool:
    """Scenes on the device, their labels here. A context manager: it owns the processes.

    Args:
        capacity: Scenes kept.
        side: Of a scene, in pixels.
        workers: Processes; they must start before CUDA does, so make the pool first and `attach` the device later.
        first_seed: Seed of the first scene.
        last_seed: Where to stop; None for never.
    """

    def __init__(self, capacity: int, side: int, workers: int, first_seed: int, last_seed: int | None = None) -> None:
        context = mp.get_context("fork")
        self._capacity, self._side = capacity, side
        # Anonymous memory, shared by forking: a small /dev/shm, as containers have, does not matter.
        self._full = context.Queue()
        self._free = [context.Queue() for _ in range(workers)]
        self._buffers = [[mmap.mmap(-1, CHUNK * side * side * 3) for _ in range(2)] for _ in range(workers)]
        end = last_seed if last_seed is not None else 1 << 60
        self._processes = [
            context.Process(
                target=_work,
                args=((first_seed + me, workers, end), side, self._buffers[me], self._free[me], self._full, me),
                daemon=True,
            )
            for me in range(workers)
        ]
        for free in self._free:
            free.put(0)
            free.put(1)
        for process in self._processes:
            process.start()
        self._arrived: collections.deque[tuple[torch.Tensor, list[Any]]] = collections.deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._bring, daemon=True)
        self._labels: list[Any] = [None] * capacity
        self.made = 0
        self.failed = False

    def attach(self, device: torch.device) -> None:
        """Begin to bring scenes to a device."""
        self._device = device
        self._images = torch.empty((self._capacity, self._side, self._side, 3), dtype=torch.uint8, device=device)
        self._thread.start()

    def __len__(self) -> int:
        return min(self.made, self._capacity)

    def _bring(self) -> None:
        cuda = self._device.type == "cuda"
        stream = torch.cuda.Stream(self._device) if cuda else None
        while not self._stop.is_set():
            try:
                me, which, labels = self._full.get(timeout=0.5)
            except queue.Empty:
                self.failed = any(not process.is_alive() for process in self._processes)
                continue
            view = np.frombuffer(self._buffers[me][which], np.uint8).reshape(CHUNK, self._side, self._side, 3)
            with torch.cuda.stream(stream) if cuda else nullcontext():
                chunk = torch.from_numpy(view).to(self._device, copy=True)
                if stream is not None:
                    stream.synchronize()
            self._free[me].put(which)
            self._arrived.append((chunk, labels))
            while len(self._arrived) > 64 and not self._stop.wait(0.01):
                pass

    def refresh(self) -> None:
        """Move what has arrived into the pool.

        Raises:
            RuntimeError: a worker has ended; its traceback is on stderr.
        """
        if self.failed:
            raise RuntimeError("a scene worker has ended")
        while self._arrived:
            chunk, labels = self._arrived.popleft()
            if chunk.is_cuda:
                chunk.record_stream(torch.cuda.current_stream())
            slot = self.made % self._capacity
            room = min(CHUNK, self._capacity - slot)
            self._images[slot : slot + room] = chunk[:room]
            self._labels[slot : slot + room] = labels[:room]
            self.made += room

    def take(self, indices: np.ndarray[Any, Any]) -> tuple[torch.Tensor, list[Any]]:
        """Scenes by place: (B, side, side, 3) uint8 BGR, and labels (class, x1, y1, x2, y2 in 0..1) of each."""
        places = torch.from_numpy(indices).to(self._device, non_blocking=True)
        return self._images[places], [self._labels[i] for i in indices.tolist()]

    def stop(self) -> None:
        """End the processes and the thread."""
        self._stop.set()
        for process in self._processes:
            process.terminate()

    def __enter__(self) -> ScenePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
