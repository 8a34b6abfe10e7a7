"""The page of the prompts shows what models are told."""

from tools import write_prompts_page


def test_the_page_shows_every_prompt_as_it_is() -> None:
    assert write_prompts_page.PAGE.read_text() == write_prompts_page.render()
