"""What a person sees when the service is ready: where it is, and on the first start the credentials and what to try."""

import sys

from app.core.config import Settings
from app.services.first_run import Credentials

_CREDENTIALS = """
This is the first start. Note these down, they are not shown again:

  Superadmin  {email}{password}
  API key     {key}
"""

_TRY = """
Try it (in another terminal):

curl {url}/health

curl {url}/ingest -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"title": "Leave policy", "text": "Every employee has 24 days of paid leave a year. Unused days expire on 31 March of the next year."}}'

curl {url}/chat -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"message": "How many days of paid leave does an employee have?"}}'
"""


def welcome(settings: Settings, credentials: Credentials | None) -> None:
    """Print to standard output, where no log line goes."""
    host = settings.host if settings.host not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 compared, not bound
    url = f"http://{host}:{settings.port}"
    if credentials is None:
        print(f"Ibid is ready at {url} (API documentation: {url}/docs)", flush=True)
        return
    print(
        f"\nIbid is ready at {url}",
        first_credentials(credentials) + _TRY.format(url=url, key=credentials.api_key),
        sep="\n",
        file=sys.stdout,
        flush=True,
    )


def first_credentials(credentials: Credentials) -> str:
    """The credentials that a first start made, which are shown once."""
    password = (
        f"  password {credentials.password}" if credentials.password else " (with the password you set)"
    )
    return _CREDENTIALS.format(email=credentials.email, password=password, key=credentials.api_key)
