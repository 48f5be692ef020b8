"""`serve`: listen, answer until told to stop, finish what was taken."""

from __future__ import annotations

import logging
import math
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvicorn

from goodnet.core.errors import InvalidOption
from goodnet.core.reading import Reading
from goodnet.serve.application import make_application
from goodnet.serve.network import ServedNetwork
from goodnet.serve.options import ServeOptions


def serve(goodnet: str | Path, options: ServeOptions, *, announce: Callable[[str], object] = print) -> None:
    """Serve a GoodNet over HTTP until SIGINT or SIGTERM; requests that were taken are answered first.

    Args:
        goodnet: an `.onnx` file of `goodnet export`, or the folder of a GoodNet.
        options: address, limits and choices.
        announce: is told the address once connections are taken.

    Raises:
        UnreadableModel: there is no GoodNet there.
        InvalidOption: nobody can listen on that address.
        UnwritableOutput: the audit log cannot be written.
    """
    network = open_network(goodnet, options)
    listener = listen(options)
    server = make_server(network, options)
    host, port = listener.getsockname()[:2]
    announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    server.run(sockets=[listener])


def open_network(goodnet: str | Path, options: ServeOptions) -> ServedNetwork:
    """Return the network of an exported file, or of a GoodNet's folder, which is exported for this run alone.

    Raises:
        UnreadableModel: there is no GoodNet there.
    """
    if not Path(goodnet).is_dir():
        return ServedNetwork(goodnet, options.threads, confine=options.confine)
    from goodnet.api.exporting import export  # loads much that a file does not need

    with tempfile.TemporaryDirectory(prefix="goodnet-") as folder:
        path = Path(folder) / "goodnet.onnx"
        export(goodnet, out=path, reading=Reading(confine=options.confine))
        return ServedNetwork(path, options.threads, confine=False)  # we have written it


def make_server(network: ServedNetwork, options: ServeOptions) -> uvicorn.Server:
    """Return the server; `run(sockets=[listener])` serves until it is told to stop.

    Raises:
        UnwritableOutput: the audit log cannot be written.
    """
    # Both warn of what any client can send, as often as it likes; the client is told, and the metrics count.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        make_application(network, options),
        http="httptools",  # refuses what two parsers could read in two ways; h11 reads it
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(options.request_seconds),
    )
    return uvicorn.Server(config)


def listen(options: ServeOptions) -> socket.socket:
    """Return a socket that listens on the address of `options`.

    Raises:
        InvalidOption: it is in use, not this machine's, or not allowed.
    """
    try:
        family, *_, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise InvalidOption(
            f"cannot listen on {options.host} port {options.port} ({reason}); choose another --host or --port"
        ) from error
