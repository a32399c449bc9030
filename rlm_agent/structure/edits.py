"""What a human may ask to have changed in a graph of thoughts: plain JSON. `operators.edit` does it."""

from typing import Literal, NotRequired, TypedDict


class AddEdit(TypedDict):
    """A new thought of that text under the thought `add`; with `final`, the answer ends with it."""

    add: str
    text: str
    final: NotRequired[bool]


class TextEdit(TypedDict):
    """A new thought of that text in the place of the thought `edit`, which is pruned."""

    edit: str
    text: str
    final: NotRequired[bool]


class PruneEdit(TypedDict):
    """The thought `prune` and all that descends from it are closed, and hold no answer any more."""

    prune: str


class ValueEdit(TypedDict):
    """The thought `revalue` is worth that `value`, in [0, 1]."""

    revalue: str
    value: float


class StopEdit(TypedDict):
    """The search concludes with the best that it has so far."""

    stop: Literal[True]


Edit = AddEdit | TextEdit | PruneEdit | ValueEdit | StopEdit
"""One change; `{"add": id, "text": …}`, `{"prune": id}` and so on."""
