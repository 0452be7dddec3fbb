"""`unblur serve`: a web page and an HTTP API on this machine."""

from __future__ import annotations

import importlib.util
import socket
from typing import Annotated

import typer

from unblur.cli.errors import errors_for_people, fail
from unblur.cli.run import RuntimeChoice

_OWN_NAMES = ("localhost", "127.0.0.1", "::1")


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A name or file; repeatable, the first is the default. Default: all.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="UNBLUR_API_KEY", help="Requests must carry it. Default: none needed."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name it is reached by, such as photos.example.org; repeatable.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="How many photos are restored at a time.")
    ] = 2,
    waiting: Annotated[
        int,
        typer.Option(
            min=0, max=10_000, help="How many photos may wait for their turn; more are refused."
        ),
    ] = 16,
    max_megabytes: Annotated[
        float, typer.Option("--max-mb", min=0.01, max=10_000, help="The largest upload.")
    ] = 64.0,
    max_pixels: Annotated[
        float, typer.Option(min=0.01, max=10_000, metavar="MP", help="The largest photo.")
    ] = 50.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="The longest that one photo may take.")
    ] = 300.0,
    keep: Annotated[
        float, typer.Option(min=0.1, metavar="MINUTES", help="How long results of jobs are kept.")
    ] = 10.0,
    runtime: Annotated[
        RuntimeChoice, typer.Option(help="As in `unblur run`.")
    ] = RuntimeChoice.auto,
    device: Annotated[str, typer.Option(help="As in `unblur run`.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processor threads. Default: all cores.")
    ] = None,
) -> None:
    """Serve a web page and an HTTP API.

    Open the address that is printed in a browser, or send photos to /v1/deblur; docs/api.md has
    examples and /openapi.json every detail. It listens to this machine alone unless --host says
    otherwise; then give it an --api-key.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if importlib.util.find_spec(module) is None:
            raise fail(f"this needs {module}: pip install 'unblur[web]'", 1)
    if api_key is not None and not (api_key.strip() and api_key.isascii()):
        raise fail("--api-key takes letters, digits and signs of ASCII, one at least", 2)
    import uvicorn

    from unblur.imaging import allow_large_photos
    from unblur.inference import shipped_models
    from unblur.inference.deblurrer import Deblurrer
    from unblur.serving import Engine, Limits, create_app, impatient

    limits = Limits(
        max_bytes=int(max_megabytes * 1e6),
        max_pixels=int(max_pixels * 1e6),
        seconds=timeout,
        waiting=waiting,
        workers=workers,
        kept_seconds=keep * 60,
    )
    with errors_for_people():
        models = {}
        for name in model or shipped_models():
            deblurrer = Deblurrer(name, runtime.value, device, threads=threads)
            if deblurrer.card.name in models:
                raise fail(f"two models are named {deblurrer.card.name}", 2)
            models[deblurrer.card.name] = deblurrer
    allow_large_photos(limits.max_pixels)
    # A server for this machine answers to no name that somebody else gave it (DNS rebinding).
    names = None if host not in _OWN_NAMES and not allow_host else [*_OWN_NAMES, host]
    if names is not None:
        names += [name.lower() for name in allow_host or []]
    app = create_app(Engine(models, limits), api_key, names)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", server_header=False, proxy_headers=False,
        http=impatient(limits.idle_seconds), limit_concurrency=1000,
        timeout_graceful_shutdown=int(timeout) + 1, h11_max_incomplete_event_size=64_000,
    )  # fmt: skip
    server = uvicorn.Server(config)
    try:
        listening = socket.create_server((host, port), family=_family(host))
    except OSError as error:
        raise fail(f"port {port} of {host} cannot be listened to ({error.strerror})", 1) from None
    shown, actual = listening.getsockname()[:2]
    shown = "localhost" if shown in _OWN_NAMES else shown
    typer.echo(f"unblur is at http://{shown}:{actual}  (Ctrl-C ends it)", err=True)
    if host not in _OWN_NAMES and api_key is None:
        typer.echo("note: anybody who reaches this address can use it; see --api-key", err=True)
    server.run([listening])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
