"""`python -m app.cli` is `ibid`."""

from app.cli import main

main()
