"""Reads the fields of a JSON object from an untrusted file, and checks each of them: `FieldReader`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, TypeVar

from yoloship._util.text import shortened
from yoloship.errors import YoloshipError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_Choice = TypeVar("_Choice", bound=str)
_Value = TypeVar("_Value")

MAX_TEXT_CHARS: Final = 1000
MAX_SHOWN_CHARS: Final = 60
"""How much of a wrong value a message shows."""

PLAIN_TEXT: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{{0,{MAX_TEXT_CHARS}}}")
"""Text without control characters, for what is shown on a terminal later."""
ANY_TEXT: Final = re.compile(rf"(?s).{{0,{MAX_TEXT_CHARS}}}")
SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole numbers from `low` to `high`; true and false are not numbers."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Number:
    """Numbers from `low` to `high`; true, false and NaN are not numbers."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Items:
    """Lists of `least` to `most` entries that all fit one rule."""

    of: Rule
    most: int
    least: int = 0


@dataclass(frozen=True, slots=True)
class OrNull:
    """What fits a rule, and null."""

    rule: Rule


Rule: TypeAlias = "re.Pattern[str] | tuple[str, ...] | Whole | Number | Items | OrNull"
"""What a JSON value should be: text that a pattern matches as a whole, one of a few texts, a number, or a list."""


def fits(value: object, rule: Rule) -> bool:
    """Whether a JSON value is what a rule says."""
    if isinstance(rule, OrNull):
        return value is None or fits(value, rule.rule)
    if isinstance(rule, re.Pattern):
        return isinstance(value, str) and rule.fullmatch(value) is not None
    if isinstance(rule, tuple):
        return value in rule
    if isinstance(rule, Items):
        return (
            isinstance(value, list)
            and rule.least <= len(value) <= rule.most
            and all(fits(entry, rule.of) for entry in value)
        )
    numbers = int if isinstance(rule, Whole) else int | float
    return isinstance(value, numbers) and not isinstance(value, bool) and rule.low <= value <= rule.high


def is_int(value: object, low: int, high: int) -> TypeGuard[int]:
    """Whether a value is a whole number from `low` to `high`; true and false are not numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> TypeGuard[int | float]:
    """Whether a value is a number from `low` to `high`; true, false and NaN are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def shown(value: object, limit: int = MAX_SHOWN_CHARS) -> str:
    """A value in ASCII for a message."""
    return shortened(ascii(value), limit)


@dataclass(frozen=True, slots=True)
class JsonForm:
    """A kind of JSON object in our own files.

    Attributes:
        what: Its name for messages: ``sidecar``.
        error: The class of the errors to raise.
        schema: The number in its field ``schema``.
        names: All its fields.
        most_chars: The longest text to decode.
        hint: What to do about an object of another schema.
    """

    what: str
    error: type[YoloshipError]
    schema: int
    names: frozenset[str]
    most_chars: int
    hint: str


@dataclass(frozen=True, slots=True)
class FieldReader:
    """Reads fields of a decoded JSON object, and refuses the first wrong one by its name.

    Attributes:
        data: The untrusted object. Give a default to a field that may be missing like this: ``{"batch": 1, **data}``.
        what: The object's name for messages: ``sidecar``.
        subject: The file that it came from, for messages.
        error: The class of the errors to raise.
    """

    data: Mapping[str, Any]
    what: str
    subject: str
    error: type[YoloshipError]

    @classmethod
    def parse(cls, text: str, form: JsonForm, *, subject: str) -> FieldReader:
        """Decode untrusted text that should be a JSON object of a certain form.

        Args:
            text: The JSON.
            form: The form that it should have.
            subject: The file that it came from, for messages.

        Raises:
            YoloshipError: of the class `form.error`: the text is too long, is not a JSON object, has another schema, or
                has fields that are not known.
        """
        error, what = form.error, form.what
        if len(text) > form.most_chars:
            raise error(f"{what} too long", subject=subject, expected=f"at most {form.most_chars} characters")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as failure:
            raise error(f"{what} is not JSON", subject=subject, got=str(failure)[:80]) from failure
        if not isinstance(data, dict):
            raise error(f"{what} is not a JSON object", subject=subject)
        if not fits(schema := data.pop("schema", None), Whole(form.schema, form.schema)):
            raise error(
                f"{what} of another schema",
                subject=subject,
                expected=str(form.schema),
                got=shown(schema, 20),
                hint=form.hint,
            )
        if unknown := sorted(shown(key, 40) for key in data.keys() - form.names):
            raise error(f"{what} has unknown fields", subject=subject, got=", ".join(unknown)[:80], hint=form.hint)
        return cls(data, what, subject, error)

    def wrong(self, key: str, expected: str) -> YoloshipError:
        """The error for a field with a wrong value."""
        got = shown(self.data.get(key))
        return self.error(f"{self.what}: bad {key!r}", subject=self.subject, expected=expected, got=got)

    def values(self, rules: Mapping[str, tuple[Rule, str]]) -> dict[str, Any]:
        """The values of many fields at once; None for a field that is missing and may be null.

        Args:
            rules: For each field its rule, and what it should be, for the message.
        """
        for key, (rule, expected) in rules.items():
            if not fits(self.data.get(key), rule):
                raise self.wrong(key, expected)
        return {key: self.data.get(key) for key in rules}

    def plain_text(self, key: str) -> str:
        """A string without control characters."""
        return self.matching(key, PLAIN_TEXT, f"plain text of at most {MAX_TEXT_CHARS} characters")

    def matching(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        """A string that a pattern matches as a whole."""
        value = self.data.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(key, expected)
        return value

    def sha256(self, key: str) -> str:
        """A digest in lower-case hex."""
        return self.matching(key, SHA256_HEX, "64 lower-case hex digits")

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self.data.get(key)
        if not is_int(value, low, high):
            raise self.wrong(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """A number within bounds."""
        value = self.data.get(key)
        if not is_number(value, low, high):
            raise self.wrong(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.data.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, allowed: tuple[_Choice, ...]) -> _Choice:
        """One of a few strings."""
        value = self.data.get(key)
        for option in allowed:
            if value == option:
                return option
        raise self.wrong(key, f"one of {', '.join(allowed)}")

    def optional(self, key: str, read: Callable[[str], _Value]) -> _Value | None:
        """The result of `read` for the field; None if the field is missing or null."""
        return None if self.data.get(key) is None else read(key)

    def items(
        self,
        key: str,
        most: int,
        fits: Callable[[Any], bool] | None = None,
        expected: str | None = None,
        least: int = 0,
    ) -> tuple[Any, ...]:
        """A list.

        Args:
            key: The field.
            most: How many entries it may have.
            fits: Whether an entry is valid; None if the caller checks the entries.
            expected: What the list should be, for the message.
            least: How many entries it must have.
        """
        value = self.data.get(key)
        if (
            not isinstance(value, list)
            or not least <= len(value) <= most
            or not (fits is None or all(map(fits, value)))
        ):
            raise self.wrong(key, expected or f"a list of at most {most}")
        return tuple(value)

    def nested(self, key: str, names: Collection[str]) -> FieldReader:
        """A reader for an object with exactly these fields."""
        value = self.data.get(key)
        if not isinstance(value, dict) or value.keys() != set(names):
            raise self.wrong(key, f"an object with {', '.join(sorted(names))}")
        return FieldReader(value, self.what, f"{self.subject}: {key}", self.error)

    def checked(self, key: str, make: Callable[[], _Value]) -> _Value:
        """The result of `make`. An error that it raises becomes an error about the field."""
        try:
            return make()
        except YoloshipError as error:
            if str(error.subject).startswith(self.subject):
                raise
            raise self.error(
                f"{self.what}: bad {key!r}: {error.problem}",
                subject=self.subject,
                expected=error.expected,
                got=error.got,
            ) from error
