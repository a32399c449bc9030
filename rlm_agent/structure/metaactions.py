"""Steps that say what they do: a tag opens the line and names the meta-action.

Source: Satori's chains of action-thought (Shen et al., arXiv 2502.02508), with three special tokens.
"""

from dataclasses import dataclass

CONTINUE, REFLECT, EXPLORE = TAGS = ("<|continue|>", "<|reflect|>", "<|explore|>")
"""Goes on with the reasoning at hand; looks back at it; starts again another way."""


@dataclass(frozen=True, slots=True)
class MetaAction:
    """A line taken apart: its `tag`, None for a line without one, and the `text` behind it, stripped."""

    tag: str | None
    text: str

    @property
    def name(self) -> str:
        """The tag's word; a line without a tag goes on with what the one before it did."""
        return (self.tag or CONTINUE).strip("<|>")


def split_tag(line: str) -> MetaAction:
    """Take a line apart; white space around the line and behind the tag belongs to neither."""
    line = line.strip()
    tag = next((tag for tag in TAGS if line.startswith(tag)), None)
    return MetaAction(tag, line.removeprefix(tag or "").strip())
