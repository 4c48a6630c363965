"""Performs a Dockerfile's steps in a bare root folder, and runs its command there, without a Docker engine.

    python tools/deploy/bare_root.py build deploy/Dockerfile --base BASE --root ROOT [--bind /etc/ssl/certs]
    python tools/deploy/bare_root.py run ROOT --volume /srv/models:/models:ro -- /models/best.onnx

BASE is a root folder that stands for the base image: Debian trixie with Python, pip and /usr/local/bin/python. The
build runs each instruction with chroot, in a copy of BASE for each stage. `run` mounts the root read-only, with an
empty /tmp, and starts the entry point as process 1 of a PID namespace, as the image's user, without capabilities. It
has the host's network. An instruction that is not known ends the build. Both need Linux and root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class Image:
    """The configuration of an image.

    Attributes:
        environment: ENV.
        arguments: ARG.
        user: USER, as ``UID:GID``.
        folder: WORKDIR.
        entrypoint: ENTRYPOINT.
        command: CMD.
        healthcheck: The command of HEALTHCHECK.
        ports: EXPOSE.
    """

    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)

    def expand(self, text: str) -> str:
        """Replace $NAME and ${NAME} by what ARG and ENV say."""
        known = self.arguments | self.environment
        return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), text)


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with the rest of its line, without comments and line ends."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


class Builder:
    """Performs instructions.

    Args:
        context: The folder that COPY reads.
        base: The root folder that stands for each base image.
        root: The root folder to make.
        binds: Folders of the host that RUN sees at the same path, such as certificates.
    """

    def __init__(self, context: Path, base: Path, root: Path, binds: list[str]) -> None:
        self._context, self._base, self._root, self._binds = context, base, root, binds
        self._stages: dict[str, Path] = {}
        self._place = root
        self._image = Image()

    def build(self, dockerfile: Path) -> Image:
        """Perform a Dockerfile; the last stage is at `root`."""
        steps = instructions(dockerfile.read_text(encoding="utf-8"))
        stages = sum(name == "FROM" for name, _ in steps)
        for name, rest in steps:
            print(f"{name} {rest}"[:160], flush=True)
            if name == "FROM":
                self._from(rest, is_last=len(self._stages) + 1 == stages)
                continue
            action = getattr(self, f"_{name.lower()}", None)
            if action is None:
                raise SystemExit(f"{dockerfile}: {name} is not known here")
            action(rest)
        return self._image

    def _from(self, rest: str, *, is_last: bool) -> None:
        _, _, name = rest.partition(" AS ")
        self._place = self._root if is_last else self._root.with_name(f"{self._root.name}-{name}")
        self._stages[name or "last"] = self._place
        self._image = Image()
        subprocess.run(["cp", "-a", "--reflink=auto", str(self._base), str(self._place)], check=True)

    def _inside(self, path: str) -> Path:
        return self._place / os.path.normpath(os.path.join("/", self._image.folder, path)).lstrip("/")  # noqa: PTH118

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self._image.arguments[name] = value

    def _env(self, rest: str) -> None:
        for word in shlex.split(rest):
            name, _, value = word.partition("=")
            self._image.environment[name] = self._image.expand(value)

    def _workdir(self, rest: str) -> None:
        self._image.folder = rest
        self._inside("").mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        origin = self._context
        if sources[0].startswith("--from="):
            origin = self._stages[sources.pop(0).partition("=")[2]]
        many = target.endswith("/")
        for source in sources:
            place = self._inside(target) / Path(source).name if many and len(sources) > 1 else self._inside(target)
            path = origin / source.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
                if origin is not self._context:  # the compiled code of a stage is wanted
                    subprocess.run(["cp", "-a", f"{path}/.", str(place)], check=True)
            else:
                shutil.copy2(path, place)

    def _run(self, rest: str) -> None:
        mounts = " && ".join(
            f"mkdir -p {self._place}{bind} && mount --bind {bind} {self._place}{bind}"
            for bind in ("/proc", "/dev", *self._binds)
        )
        passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environment = self._image.arguments | self._image.environment | passed
        inner = f"cd {shlex.quote(self._image.folder)} && {rest}"
        command = f"{mounts} && exec chroot {self._place} /bin/sh -c {shlex.quote(inner)}"
        subprocess.run(["unshare", "--mount", "/bin/sh", "-c", command], check=True, env=environment)

    def _user(self, rest: str) -> None:
        self._image.user = rest

    def _expose(self, rest: str) -> None:
        self._image.ports = rest.split()

    def _stopsignal(self, rest: str) -> None:
        if rest != "SIGTERM":
            raise SystemExit(f"STOPSIGNAL {rest} is not known here")

    def _healthcheck(self, rest: str) -> None:
        self._image.healthcheck = json.loads(rest.partition("CMD ")[2])

    def _entrypoint(self, rest: str) -> None:
        self._image.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self._image.command = json.loads(rest)


def build(options: argparse.Namespace) -> None:
    """Make the root folder, and note the image's configuration beside it."""
    image = Builder(options.context, options.base, options.root, options.bind).build(options.dockerfile)
    kept = {name: getattr(image, name) for name in Image.__slots__}
    options.root.with_suffix(".json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    print("done:", options.root)


def run(options: argparse.Namespace) -> int:
    """Run the entry point, or the health check, and give its exit code."""
    image = Image(**json.loads(options.root.with_suffix(".json").read_text(encoding="utf-8")))
    root = options.root
    steps = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc", f"mount -t tmpfs tmpfs {root}/tmp"]
    steps += [f"mount -t tmpfs tmpfs {root}/dev", f"mknod -m 666 {root}/dev/null c 1 3"]
    steps += [f"mknod -m 444 {root}/dev/urandom c 1 9"]
    for volume in options.volume:
        outside, inside, *mode = volume.split(":")
        steps += [f"mkdir -p {root}{inside}", f"mount --bind {outside} {root}{inside}"]
        steps += [f"mount -o remount,bind,ro {root}{inside}"] if mode == ["ro"] else []
    steps += [f"mount -o remount,bind,ro {root}"]
    user, _, group = image.user.partition(":")
    words = image.healthcheck if options.health else [*image.entrypoint, *(options.words or image.command)]
    become = ["setpriv", "--reuid", user, "--regid", group or user, "--clear-groups", "--no-new-privs"]
    become += ["--bounding-set=-all", "--inh-caps=-all"]
    inner = f"cd {shlex.quote(image.folder)} && exec {shlex.join([*become, *words])}"
    steps += [f"exec chroot {root} /bin/sh -c {shlex.quote(inner)}"]
    script = " && ".join(steps)
    # The child of `unshare --fork` is process 1 of the namespace; signals to this process are for it.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script]
    process = subprocess.Popen(command, env=image.environment)
    if options.pid_file is not None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (child := children.read_text(encoding="ascii").strip()) and process.poll() is None:
            pass
        options.pid_file.write_text(child, encoding="ascii")
    return process.wait()


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    one = modes.add_parser("build")
    one.add_argument("dockerfile", type=Path)
    one.add_argument("--base", type=Path, required=True)
    one.add_argument("--root", type=Path, required=True)
    one.add_argument("--context", type=Path, default=Path())
    one.add_argument("--bind", action="append", default=[])
    two = modes.add_parser("run", usage="%(prog)s [options] root [-- WORDS INSTEAD OF CMD]")
    two.add_argument("root", type=Path)
    two.add_argument("--volume", action="append", default=[], metavar="OUTSIDE:INSIDE[:ro]")
    two.add_argument("--health", action="store_true", help="run the health check instead")
    two.add_argument("--pid-file", type=Path, help="where to write the number of process 1, as this machine sees it")
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:cut])
    options.words = given[cut + 1 :]
    if options.mode == "build":
        build(options)
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
