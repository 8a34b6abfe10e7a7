"""The pages that one-time links open: `/set-password#token` and `/join#token`.

The token stands behind `#`, so it is in no request line and in no log; the page's script sends it as the API wants it.
"""

from typing import Final

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto; padding: 0 1rem; color: #1d2733; }}
label, input, button {{ display: block; width: 100%; box-sizing: border-box; font: inherit; }}
input {{ margin: .25rem 0 1rem; padding: .5rem; border: 1px solid #8a97a6; border-radius: .25rem; }}
button {{ padding: .6rem; border: 0; border-radius: .25rem; background: #1b4f91; color: #fff; cursor: pointer; }}
</style>
</head>
<body>
<h1>{title}</h1>
<noscript>This page needs JavaScript.</noscript>
<form data-action="{action}">
<input type="text" name="username" autocomplete="username" hidden>
{fields}<label for="password">New password (10 characters or more)</label>
<input id="password" type="password" autocomplete="new-password" minlength="10" maxlength="256" required>
<label for="again">The same again</label>
<input id="again" type="password" autocomplete="new-password" required>
<button>{button}</button>
</form>
<p role="status"></p>
<script src="{path}/script.js"></script>
</body>
</html>
"""
_NAME: Final = """<label for="name">Your name</label>
<input id="name" type="text" autocomplete="name" maxlength="200">
"""
_SCRIPT: Final = """const form = document.querySelector("form");
const status = document.querySelector("[role=status]");
const token = location.hash.slice(1);
const field = (id) => document.getElementById(id)?.value;
if (!token) {
  form.hidden = true;
  status.textContent = "This link is not whole: open it again from the message that you were sent.";
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (field("password") !== field("again")) {
    status.textContent = "The two passwords are not the same.";
    return;
  }
  const joins = form.dataset.action === "auth/signup";
  const body = joins
    ? { invitation: token, password: field("password"), name: field("name") }
    : { token, new_password: field("password") };
  try {
    const answer = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      form.hidden = true;
      history.replaceState(null, "", location.pathname);
      status.textContent = joins ? "Welcome: you can log in now." : "Done: you can log in with the new password now.";
    } else {
      status.textContent = (await answer.json()).error.message;
    }
  } catch {
    status.textContent = "The service can't be reached; try again shortly.";
  }
});
"""


def add_one_time_pages(app: FastAPI) -> None:
    """Serve both pages and their script."""
    set_password = _PAGE.format(
        title="Set your password",
        action="auth/password-reset",
        fields="",
        button="Set it",
        path="set-password",
    )
    join = _PAGE.format(title="Join", action="auth/signup", fields=_NAME, button="Join", path="join")

    @app.get("/set-password", include_in_schema=False)
    async def set_password_page() -> HTMLResponse:
        return HTMLResponse(set_password)

    @app.get("/join", include_in_schema=False)
    async def join_page() -> HTMLResponse:
        return HTMLResponse(join)

    @app.get("/set-password/script.js", include_in_schema=False)
    @app.get("/join/script.js", include_in_schema=False)
    async def script() -> Response:
        return Response(_SCRIPT, media_type="text/javascript; charset=utf-8")
