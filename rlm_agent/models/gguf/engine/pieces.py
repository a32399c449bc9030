"""What each token stands for, asked of llama.cpp once."""

from rlm_agent.models.gguf.file import ModelFile


class Pieces:
    """The bytes of each token, and which tokens end a generation."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._bytes: dict[int, bytes] = {}
        self._spelled: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def __getitem__(self, token: int) -> bytes:
        """The bytes of a token."""
        if token not in self._bytes:
            self._bytes[token] = self._file.piece(token)
        return self._bytes[token]

    def spelled(self, token: int) -> bytes:
        """The bytes of a token, and the text of one that controls: a grammar takes the two for the same."""
        if token not in self._spelled:
            self._spelled[token] = self._file.piece(token, special=True)
        return self._spelled[token]

    def ends(self, token: int) -> bool:
        """Whether the model ends its text with this token."""
        if token not in self._ends:
            self._ends[token] = self._file.ends(token)
        return self._ends[token]
