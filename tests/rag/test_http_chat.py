"""What the chat models over HTTP have in common."""

import pytest
import wrapt

from app.rag import chat_replies
from app.rag.anthropic_chat import AnthropicChat
from app.rag.http_chat import HttpChat
from app.rag.ollama_chat import OllamaChat
from app.rag.openai_chat import OpenAIChat


@pytest.mark.parametrize("kind", [OpenAIChat, AnthropicChat, OllamaChat])
def test_no_call_of_a_model_opens_a_span(kind: type[HttpChat]) -> None:
    own = {**vars(HttpChat), **vars(kind)}
    asked = ("achat", "astream_chat", "_body", "_read", "_pieces", "url_under")
    assert [name for name in asked if isinstance(own[name], wrapt.FunctionWrapper)] == []


def test_a_provider_without_words_of_its_own_is_none() -> None:
    class Silent(HttpChat):
        pass

    assert Silent.__abstractmethods__ == {"url_under", "_body", "_read", "_pieces"}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_character_that_comes_in_halves_is_one(size: int) -> None:
    text = "Smile \ud83d\ude00, \ude00 or \ud83d go\0od \ud83d"
    mender = chat_replies.Mender()

    pieces = [mender.feed(text[at : at + size]) for at in range(0, len(text), size)]

    assert "".join((*pieces, mender.flush())) == "Smile 😀, \ufffd or \ufffd good \ufffd"
