"""Files to pages of text, in a child process that a hostile file can't leave.

`fence` is the side of the server: it starts the child and reads its answer. `child` and the parsers of the formats run in the
child; nothing here imports anything of the server but `app.core.text` and `app.core.decoding`, so that a child starts in 60 ms.
"""
