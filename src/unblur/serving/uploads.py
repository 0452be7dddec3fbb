"""What a request brings, within limits of bytes and time: its body, or the file of a form."""

from __future__ import annotations

import asyncio
import tempfile
import time
from typing import Any, BinaryIO, cast

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unblur.serving.errors import RefusedError, problem
from unblur.serving.limits import Limits

_IN_MEMORY = 1_000_000  # bytes; more of an upload goes to a file
FIELD = "file"


class BodyLimit:
    """ASGI middleware: a body that is too long, or takes too long to come, is cut off."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limits = self.limits
        headers = {name.lower(): value for name, value in scope["headers"]}
        length = headers.get(b"content-length", b"0")
        # The rest of such a body is not waited for.
        closing = {"Connection": "close"}
        if not length.isdigit() or int(length) > limits.max_bytes:
            await problem(413, _too_long(limits), closing)(scope, receive, send)
            return
        deadline = time.monotonic() + limits.body_seconds
        received, complete = 0, False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # what comes now is that the client went away
                return await receive()
            patience = min(limits.idle_seconds, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(patience, 0.001))
            except TimeoutError:
                raise RefusedError(408, "the upload took too long", closing) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > limits.max_bytes:
                raise RefusedError(413, _too_long(limits), closing)
            return message

        await self.app(scope, limited, send)


def _too_long(limits: Limits) -> str:
    return f"the upload is larger than {limits.max_bytes / 1e6:g} MB"


async def receive_photo(request: Request) -> BinaryIO:
    """The photo of a request as a temporary file: a form's field `file`, or the whole body.

    Raises RefusedError.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await _from_form(request)
    upload = cast(BinaryIO, tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
    try:
        async for chunk in request.stream():
            upload.write(chunk)
        upload.seek(0)
    except ClientDisconnect:
        upload.close()
        raise RefusedError(400, "the upload broke off") from None
    except BaseException:
        upload.close()
        raise
    return upload


async def _from_form(request: Request) -> BinaryIO:
    try:
        form = await request.form(max_files=1, max_fields=8)
    except ClientDisconnect:
        raise RefusedError(400, "the upload broke off") from None
    found: Any = form.get(FIELD)
    if not isinstance(found, UploadFile):
        await form.close()
        names = ", ".join(sorted(form)) or "none"
        raise RefusedError(
            422, f"send the photo as the form's file field '{FIELD}' (fields that came: {names})"
        )
    others = sorted(set(form) - {FIELD})
    if others:
        await form.close()
        raise RefusedError(
            422, f"unknown form field {others[0]}: options such as model belong into the address"
        )
    return found.file  # open until its task is done with it
