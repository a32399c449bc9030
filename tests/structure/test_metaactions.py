"""Lines that open with a meta-action, taken apart."""

import pytest

from rlm_agent.structure.metaactions import CONTINUE, EXPLORE, REFLECT, TAGS, MetaAction, split_tag


@pytest.mark.parametrize(
    ("line", "tag", "text"),
    [
        ("<|continue|>6 * 4 = 24", CONTINUE, "6 * 4 = 24"),
        ("  <|reflect|> back to 1 \n", REFLECT, "back to 1"),
        ("<|explore|>", EXPLORE, ""),
        ("no tag here", None, "no tag here"),
        ("so <|reflect|> in the middle", None, "so <|reflect|> in the middle"),
        ("<|reflect|><|explore|>both", REFLECT, "<|explore|>both"),
        ("<|stop|>unknown", None, "<|stop|>unknown"),
        ("", None, ""),
    ],
)
def test_a_tag_counts_at_the_beginning_alone(line: str, tag: str | None, text: str) -> None:
    assert split_tag(line) == MetaAction(tag, text)


def test_the_name_is_the_tag_s_word_and_no_tag_goes_on() -> None:
    assert [split_tag(tag).name for tag in (*TAGS, "")] == ["continue", "reflect", "explore", "continue"]
