"""An answer as far as it has come."""

import time
from dataclasses import replace
from typing import Any, cast

from app.services.answers import Source
from app.services.drafts import Draft

SOURCE = Source(1, "doc_1", "T", None, "c1", 1, 0, 4, "text", 0.5)


def test_what_another_model_cited_before_it_failed_is_not_cited() -> None:
    draft = Draft("sess_1", "msg_1", "m", time.monotonic(), cast("Any", None))
    draft.sources = (SOURCE, replace(SOURCE, n=2))

    draft.cite({1}, lambda _: True)
    draft.cite({2}, lambda _: False)

    assert [(source.cited, source.supported) for source in draft.sources] == [(False, None), (True, False)]
