"""The options of a detector and of its calls, each checked once against the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yoloship.detect.options import MASK_OPTION_NAMES, OPTION_NAMES, DetectOptions
from yoloship.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yoloship.detect.pipeline import Pipeline

_KNOWN_OPTIONS = 64
"""Most options that are remembered as checked."""


class CallOptions:
    """Chooses the options of each call. Many threads can use it at once.

    Args:
        pipeline: Its model and task decide which options are right.
        options: The detector's; None takes the defaults for the model.
        changes: Values that replace single options.

    Attributes:
        default: The options of a call that gives none.

    Raises:
        InputError: an option contradicts the model, or has no effect for its task.
    """

    def __init__(self, pipeline: Pipeline, options: DetectOptions | None, changes: Mapping[str, Any]) -> None:
        self._task, self._info, self._model_name = pipeline.task, pipeline.model.info, pipeline.model.model_name
        self._known: dict[DetectOptions, DetectOptions] = {}
        self.default = self.chosen(replace(options or DetectOptions.of(self._info), **changes), changes)

    def chosen(self, options: DetectOptions | None, changes: Mapping[str, Any]) -> DetectOptions:
        """The options of one call.

        Args:
            options: All of them; None takes the detector's, with the changes.
            changes: Values that the caller gives for single options.

        Returns:
            The same object for equal options, as long as it is remembered: a GPU compares plans by identity.

        Raises:
            InputError: an option contradicts the model, or has no effect for its task.
        """
        chosen = options or replace(self.default, **changes)
        info, lacks_options = self._info, len(self._task.options) < len(OPTION_NAMES)
        if changes and lacks_options:
            self._refuse_without_effect(changes)
        if info.head == "one2one":
            chosen.check_final(self._model_name, changes)
        known = self._known.get(chosen)
        if known is not None:
            return known
        if lacks_options:
            plain = DetectOptions.of(info)
            self._refuse_without_effect(name for name in OPTION_NAMES if getattr(chosen, name) != getattr(plain, name))
        if chosen.retina_masks or chosen.mask_rule is not None:
            self._refuse_without_effect(name for name in MASK_OPTION_NAMES if getattr(chosen, name))
        if info.nms is not None:
            chosen.check_against(info.nms, self._model_name)
        if chosen.classes is not None:
            chosen.class_ids(info.class_names)  # refuses a class that the model does not have
        if len(self._known) >= _KNOWN_OPTIONS:
            self._known.clear()
        self._known[chosen] = chosen
        return chosen

    def _refuse_without_effect(self, names: Iterable[str]) -> None:
        """Refuse options that the model's task does not have."""
        for name in names:
            if name not in self._task.options:
                option = {**OPTION_NAMES, **MASK_OPTION_NAMES}[name]
                raise InputError(
                    f"has no effect for a {self._task.title}", subject=f"{name} ({option})", hint="leave it out"
                )
