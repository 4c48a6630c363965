"""Train the demo model: ``python tools/train_demo/train.py --out runs/demo --minutes 8``.

Bounded by the clock, not by epochs: the schedule follows the share of the time that has passed, so a run ends with a
small learning rate wherever it runs. State is saved every so often; `--resume` goes on from it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

import numpy as np  # noqa: E402 - after the path
import torch  # noqa: E402
from augment import batch_of  # noqa: E402
from loss import Losses, detection_loss  # noqa: E402
from network import DetectionModel  # noqa: E402
from stream import ScenePool  # noqa: E402
from wire import save_checkpoint  # noqa: E402

from yoloship.demo.scene import CLASS_NAMES, HELD_OUT_SEED  # noqa: E402

MOMENTUM, WEIGHT_DECAY, CLIP_NORM = 0.937, 5e-4, 10.0
WARM_UP_STEPS = 400
LAST_RATE = 0.005
CALM_SHARE = 0.15
ROWS_A_IMAGE = 16


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0, help="of training; filling the pool comes before")
    parser.add_argument(
        "--deadline", type=float, default=None, help="seconds from the start by which all must be saved"
    )
    parser.add_argument("--steps", type=int, default=None, help="end after so many steps instead (for trials)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--pool", type=int, default=24_000, help="scenes kept on the device")
    parser.add_argument("--fill", type=int, default=6_000, help="scenes to wait for before the first step")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--rate", type=float, default=0.015, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-scene", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--scenes", type=int, default=None, help="make no more than these: for trials")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--augment", type=float, default=0.5, help="share of images that are zoomed or tinted")
    parser.add_argument("--save-every", type=float, default=45.0, help="seconds")
    parser.add_argument("--resume", type=Path, default=None, help="folder of a run that was cut off: go on with it")
    parser.add_argument("--warm-start", type=Path, default=None, help="ema.pt of a run: begin with its weights")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network; eager where that fails")
    return parser.parse_args()


class Average:
    """Exponential moving average of a model's weights and buffers; young averages forget faster."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.updates = 0

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        self.updates += 1
        decay = 0.9995 * (1 - math.exp(-self.updates / 1000))
        mine, theirs = self.model.state_dict(), model.state_dict()
        names = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in names], [theirs[n] for n in names], 1 - decay)


def optimizer_for(model: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum; only convolution weights decay."""
    decays = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    groups = [{"params": decays, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True)


class Run:
    """One training run: owns the files in its folder."""

    def __init__(self, options: argparse.Namespace, pool: ScenePool, device: torch.device, started: float) -> None:
        torch.manual_seed(options.seed)
        self.options, self.pool, self.device, self.started = options, pool, device, started
        self.rng = np.random.Generator(np.random.PCG64(options.seed))
        self.model = DetectionModel(CLASS_NAMES).to(device, memory_format=torch.channels_last)
        self.optimizer = optimizer_for(self.model, options.rate)
        self.step, self.progress_before, self.progress = 0, 0.0, 0.0
        self.log: list[dict[str, Any]] = []
        if options.warm_start:
            self.model.load_state_dict(torch.load(options.warm_start, map_location=device, weights_only=True))
        self.average = Average(self.model)
        if options.resume:
            self._resume(options.resume)
        self.network = torch.compile(self.model) if options.compile else self.model
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bfloat16")

    def _resume(self, folder: Path) -> None:
        state = torch.load(folder / "resume.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.model.load_state_dict(torch.load(folder / "ema.pt", map_location=self.device, weights_only=True))
        self.step, self.progress_before = state["step"], state["progress"]
        self.average.updates = state["updates"]
        self.log = json.loads((folder / "log.json").read_text())["log"]
        print(f"resumed at step {self.step}, {self.progress_before:.1%} of the schedule", flush=True)

    def train(self) -> None:
        """Until the time, or the number of steps, is spent."""
        options = self.options
        begun = saved = spoken = time.monotonic()
        spoken_step, first_step = self.step, self.step
        sums = torch.zeros(4, device=self.device)
        anchors = self.model.model[-1].anchors
        self.model.train()
        while True:
            now = time.monotonic()
            if options.steps:
                share = (self.step - first_step) / options.steps
            else:
                share = (now - begun) / (options.minutes * 60)
            if options.deadline and now - self.started > options.deadline - 25:
                print("the deadline is near: ending early", flush=True)
                break
            self.progress = self.progress_before + (1 - self.progress_before) * share
            if share >= 1:
                break
            self._set_rate()
            self.pool.refresh()
            places = self.rng.integers(len(self.pool), size=options.batch)
            strength = options.augment if self.progress < 1 - CALM_SHARE else 0.0
            images, targets = batch_of(*self.pool.take(places), self.rng, strength, ROWS_A_IMAGE * options.batch)
            sums += self._learn(images, targets, anchors)
            self.step += 1
            if now - spoken > 10 or (options.steps and self.step % 50 == 0):
                count = self.step - spoken_step
                self._speak(sums / count, count * options.batch / (now - spoken), now)
                spoken, spoken_step = now, self.step
                sums = torch.zeros(4, device=self.device)
            if now - saved > options.save_every:
                self.save()
                saved = time.monotonic()

    def _learn(self, images: torch.Tensor, targets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            losses = self._descend(images, targets, anchors)
        except Exception as error:  # the compiler may raise anything
            if self.network is self.model:
                raise
            print(f"torch.compile failed, going on without: {type(error).__name__}: {str(error)[:300]}", flush=True)
            self.network = self.model
            self.optimizer.zero_grad(set_to_none=True)
            losses = self._descend(images, targets, anchors)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model)
        return torch.stack([losses.total.detach() / len(images), losses.box, losses.objectness, losses.classes])

    def _descend(self, images: torch.Tensor, targets: torch.Tensor, anchors: torch.Tensor) -> Losses:
        with self.autocast:
            heads = self.network(images)
        losses = detection_loss(heads, targets, anchors)
        losses.total.backward()
        return losses

    def _set_rate(self) -> None:
        warm = min(1.0, (self.step + 1) / min(WARM_UP_STEPS, (self.options.steps or 1 << 30) / 5))
        cosine = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(self.progress, 1.0))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * cosine * warm
            group["momentum"] = 0.8 + (MOMENTUM - 0.8) * warm

    def _speak(self, means: torch.Tensor, speed: float, now: float) -> None:
        total, box, objectness, classes = (round(float(value), 5) for value in means)
        entry = {
            "seconds": round(now - self.started, 1),
            "step": self.step,
            "progress": round(self.progress, 4),
            "rate": round(self.optimizer.param_groups[0]["lr"], 6),
            "loss": total,
            "box": box,
            "objectness": objectness,
            "classes": classes,
            "images_a_second": round(speed),
            "scenes_made": self.pool.made,
        }
        self.log.append(entry)
        print(json.dumps(entry), flush=True)

    def save(self) -> None:
        """Everything that a later run, or a reader of the model, needs; each file whole or not at all."""
        out = self.options.out
        out.mkdir(parents=True, exist_ok=True)
        resume = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "progress": self.progress,
            "updates": self.average.updates,
        }
        for name, content in (("resume.pt", resume), ("ema.pt", self.average.model.state_dict())):
            torch.save(content, out / f"{name}.part")
            (out / f"{name}.part").replace(out / name)
        save_checkpoint(self.average.model, out / "codes-yolov5n.pt")
        facts = {
            "options": {key: str(value) for key, value in vars(self.options).items()},
            "versions": versions(self.device),
            "log": self.log,
        }
        (out / "log.json").write_text(json.dumps(facts, indent=1))

    @torch.no_grad()
    def held_out_loss(self, count: int = 128) -> None:
        """The averaged model's loss on scenes that nobody trained on."""
        from yoloship.demo.scene import make_scene

        sums, batch = torch.zeros(3), 32
        side = self.options.side
        for first in range(0, count, batch):
            scenes = [make_scene(HELD_OUT_SEED + first + i, (side, side)) for i in range(batch)]
            originals = torch.from_numpy(np.stack([scene.image for scene in scenes])).to(self.device)
            labels = [np.column_stack([s.class_ids, s.boxes_xyxy / side]).astype(np.float32) for s in scenes]
            images, targets = batch_of(originals, labels, self.rng, 0.0, 40 * batch)
            heads = self.average.model(images.contiguous(memory_format=torch.channels_last))
            losses = detection_loss(heads, targets, self.average.model.model[-1].anchors)
            sums += torch.stack(losses[1:]).cpu() * batch / count
        entry = {
            "held_out": dict(zip(("box", "objectness", "classes"), (round(v, 5) for v in sums.tolist()), strict=True))
        }
        self.log.append(entry)
        print(json.dumps(entry), flush=True)


def versions(device: torch.device) -> dict[str, str]:
    """What the run was made with."""
    import cv2

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "device": name,
    }


def main() -> None:
    """Fill the pool, train, save."""
    started = time.monotonic()
    options = arguments()
    last = options.first_scene + options.scenes if options.scenes else None
    with ScenePool(options.pool, options.side, options.workers, options.first_scene, last) as pool:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        print(json.dumps(versions(device)), flush=True)
        pool.attach(device)
        spoken = 0.0
        while len(pool) < min(options.fill, options.pool):
            pool.refresh()
            time.sleep(0.05)
            if time.monotonic() - spoken > 5:
                spoken = time.monotonic()
                print(f"{spoken - started:.0f} s: {len(pool)} scenes", flush=True)
        run = Run(options, pool, device, started)
        run.train()
        run.save()
    run.held_out_loss(128 if not options.steps else 32)
    run.save()
    print(f"done: {run.step} steps, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
