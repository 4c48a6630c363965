"""How much a checkpoint may ask for before it is refused.

Every limit is far above the needs of the largest real file (an unstripped training state of the largest model: about
300 000 opcodes, 1 MB of pickle, 2 000 modules). It is low enough that a refusal costs little memory and a few seconds.
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
        opcodes: Instructions in one pickle stream. Together with `string_bytes` this limits the memory of objects.
        string_bytes: One text or byte string.
        text_bytes: All strings together.
        integer_bytes: One integer. Real ones fit in 16 bytes.
        line_bytes: One line argument of a text opcode.
        name_chars: A module and class name, or a storage key.
        globals: Different names of classes and functions.
        key_chars: A dictionary key.
        copied_items: Elements and bytes that constructors copy. A file may ask them to copy one object many times.
        plain_keys: Dictionary keys and set members other than strings, because their hashes can be made to collide.
        nesting: Levels of containers within containers in the result.
        modules: Modules in the tree. A shared module counts at each place.
        values: Values in all attributes and metadata. A shared value counts at each place.
        dimensions: Axes of a tensor.
        tensor_elements: Elements of a tensor that its storage really holds.
        expanded_elements: Elements of a tensor that repeats its storage (stride 0).
        members: Files in a zip container.
        directory_bytes: The zip's directory.
        inflated_bytes: The inflated size that all compressed members of a zip claim together may exceed
            `inflated_factor` times the file by this much.
        inflated_factor: A multiple of the file's size; see `inflated_bytes`. Weights hardly compress, but those of a
            pruned network do.
        class_names: Number of classes.
        class_name_chars: All class names together. A text that several classes share counts for each of them.
        steps: Values that are looked at while records are made, also those in refused parts.
        spread_bytes: The model's tensors may take this much memory beyond `spread_factor` times the file, or beyond
            twice the size of its members. A tensor that repeats or shares its storage counts in full, at each place.
        spread_factor: A multiple of the file's size; see `spread_bytes`. A float16 checkpoint takes twice its size as
            float32.
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
    spread_bytes: int = 128 << 20
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
    """How much reading one file may cost, in bytes and in work.

    Args:
        limits: The limits that apply.
        file_bytes: Size of the file.
        held_bytes: Size of its content, after inflating compressed members.
        subject: Its name, for messages.
    """

    def __init__(self, limits: Limits, file_bytes: int, held_bytes: int, subject: str) -> None:
        self.limits = limits
        self.nbytes = limits.spread_bytes + max(limits.spread_factor * file_bytes, 2 * held_bytes)
        self._subject = subject
        self._steps = limits.steps
        self._values = limits.values

    def work(self, steps: int) -> None:
        """Count values before they are looked at.

        Raises:
            CheckpointError: the total is above the limit.
        """
        self._steps -= steps
        if self._steps < 0:
            raise CheckpointError(f"takes more than {self.limits.steps} steps to read", subject=self._subject)

    def takes(self, values: int) -> bool:
        """Whether this many more values of metadata may be kept. If so, they are counted."""
        if values > self._values:
            return False
        self._values -= values
        return True
