"""A model that goes on with what it has said, or has to be asked to; its answer is cut to fit."""

from dataclasses import dataclass

from rlm_agent.models.hearing import begun

GO_ON = (
    "Go on with your answer from exactly where it stops. Write only what comes next, and repeat nothing of "
    "what stands there already."
)
"""What a model is asked, behind its own words, that cannot be made to continue them."""


@dataclass(slots=True)
class Continuation:
    """What has come so far of the text behind `prefix`, up to the first of `stops`.

    `repeats` tells that the model may begin with what it has said, or with white space, in spite of `GO_ON`.
    """

    prefix: str
    stops: tuple[str, ...]
    repeats: bool
    said: str = ""
    told: int = 0

    def add(self, text: str) -> bool:
        """Take some more text; whether a stop has come."""
        self.said += text
        return self.cut()[1]

    def cut(self) -> tuple[str, bool]:
        """The continuation up to the first stop, and whether there is one."""
        text, prefix = self.said, self.prefix
        if self.repeats and prefix:
            if len(text) < len(prefix) and prefix.startswith(text):
                return "", False  # it may be repeating what it said
            text = text.removeprefix(prefix).lstrip()
        ends = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        return (text[: min(ends)], True) if ends else (text, False)

    def fresh(self, *, final: bool = False) -> str:
        """What is sure to be part of the continuation and was not told before: no beginning of a stop."""
        text, stopped = self.cut()
        sure = len(text) if stopped or final else len(text) - begun(text, self.stops)
        piece, self.told = text[self.told : sure], max(self.told, sure)
        return piece
