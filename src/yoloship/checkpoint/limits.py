"""How much a checkpoint may ask for before it is refused.

Every figure is far above what the largest real file needs (an unstripped training state of the largest model: some
300 000 opcodes, 1 MB of pickle, 2 000 modules) and low enough that a refusal costs little memory and a few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from yoloship.errors import CheckpointError, InputError


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds, checked before memory is taken.

    Attributes:
        file_bytes: The whole file.
        pickle_bytes: Length of one pickle stream.
        opcodes: Instructions in it; with `string_bytes` this bounds the memory that objects take.
        string_bytes: One text or byte string.
        text_bytes: All strings together.
        integer_bytes: One integer; real ones fit in 16.
        line_bytes: One line argument of a text opcode.
        name_chars: A module and class name, a storage key.
        globals: Different names of classes and functions.
        key_chars: A dictionary key.
        copied_items: Elements and bytes copied by constructors, which may be asked to copy one object many times.
        plain_keys: Dictionary keys and set members other than strings: their hashes can be made to collide.
        nesting: Levels of containers within containers in what is handed out.
        modules: Modules in the tree, a shared one counted at each place.
        values: Values in all attributes and metadata, a shared one counted at each place.
        dimensions: Axes of a tensor.
        tensor_elements: Elements of a tensor that its storage really holds.
        expanded_elements: Elements of a tensor that repeats its storage (stride 0).
        members: Files in a zip container.
        directory_bytes: The zip's directory.
        inflated_bytes: What all compressed members of a zip claim to hold, together, beyond `inflated_factor` times
            the file.
        inflated_factor: See `inflated_bytes`. Weights hardly compress; those of a pruned network do.
        class_names: Classes.
        class_name_chars: All class names together, a text that several share counted for each.
        steps: Values that are looked at while records are made, those of refused parts included.
        spread_bytes: What the model's tensors may take in memory beyond `spread_factor` times the file, or twice what
            its members hold; a tensor that repeats or shares its storage counts in full, and at each place where the
            model has it.
        spread_factor: See `spread_bytes`. A float16 checkpoint takes twice its size as float32.
    """

    file_bytes: int = 8 << 30
    pickle_bytes: int = 16 << 20
    opcodes: int = 1_000_000
    string_bytes: int = 1 << 20
    text_bytes: int = 8 << 20
    integer_bytes: int = 64
    line_bytes: int = 4096
    name_chars: int = 400
    globals: int = 10_000
    key_chars: int = 4096
    copied_items: int = 8_000_000
    plain_keys: int = 200_000
    nesting: int = 64
    modules: int = 20_000
    values: int = 2_000_000
    dimensions: int = 16
    tensor_elements: int = 1 << 34
    expanded_elements: int = 1 << 24
    members: int = 65_536
    directory_bytes: int = 16 << 20
    inflated_bytes: int = 64 << 20
    inflated_factor: int = 16
    class_names: int = 100_000
    class_name_chars: int = 2 << 20
    steps: int = 2_000_000
    spread_bytes: int = 64 << 20
    spread_factor: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise InputError(
                    "is not a limit", subject=field.name, expected="a positive integer", got=repr(value)[:60]
                )


LIMITS = Limits()
"""The limits that `read_checkpoint` applies."""


class Budget:
    """What one file may cost, in bytes and in work.

    Args:
        limits: The bounds in force.
        file_bytes: Size of the file.
        held_bytes: What it holds, compressed members inflated.
        subject: Its name, for messages.
    """

    def __init__(self, limits: Limits, file_bytes: int, held_bytes: int, subject: str) -> None:
        self.limits = limits
        self.nbytes = limits.spread_bytes + max(limits.spread_factor * file_bytes, 2 * held_bytes)
        self._subject = subject
        self._steps = limits.steps
        self._values = limits.values

    def work(self, steps: int) -> None:
        """Account for values before they are looked at.

        Raises:
            CheckpointError: they are too many, together with those before them.
        """
        self._steps -= steps
        if self._steps < 0:
            raise CheckpointError(f"takes more than {self.limits.steps} steps to read", subject=self._subject)

    def takes(self, values: int) -> bool:
        """Whether that many values of metadata may be kept beside those before them; if so, they count."""
        if values > self._values:
            return False
        self._values -= values
        return True
