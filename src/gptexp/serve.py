"""Serve a trained model on this machine: an endpoint that clients of OpenAI understand, and a page to try it.

python -m gptexp.serve latest
python -m gptexp.serve outputs/translate-nano-1a2b3c4d --port 8080
python -m gptexp.serve base
"""

import argparse
import os
import socket
import sys

from gptexp.checkpoints.find_weights import find_weights
from gptexp.command_line import CommandParser, add_weights_option
from gptexp.errors import UserError, exits_cleanly
from gptexp.extras import require_extra
from gptexp.network import is_loopback
from gptexp.stages import stage


def _parse_arguments() -> argparse.Namespace:
    parser = CommandParser("serve", __doc__)
    parser.add_argument("run", help="a run, 'latest', an exported folder or a Hugging Face name")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port (default: 8000); 0: a free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, this machine alone); 0.0.0.0: all networks",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name of this server, for example that of a proxy; can be repeated",
    )
    parser.add_argument(
        "--max-batch",
        type=int,
        default=16,
        metavar="N",
        help="largest number of answers that are computed at once (default: 16)",
    )
    parser.add_argument(
        "--max-waiting",
        type=int,
        default=256,
        metavar="N",
        help="largest number of answers that wait; further requests are refused (default: 256)",
    )
    add_weights_option(parser)
    args = parser.parse_args()
    for name, smallest, largest in (
        ("port", 0, 65_535),
        ("max_batch", 1, 1024),
        ("max_waiting", 1, 1_000_000),
    ):
        value = getattr(args, name)
        if not smallest <= value <= largest:
            raise UserError(
                f"--{name.replace('_', '-')} {value}: must be from {smallest} to {largest}"
            )
    return args


@exits_cleanly
def main() -> None:
    args = _parse_arguments()
    require_extra("serve", ("starlette", "uvicorn"))
    source = find_weights(args.run)
    listener = listen(args.host, args.port)
    with stage("loading PyTorch"):
        from gptexp.serving.run_server import start_server
    with stage("loading the model"):
        server = start_server(
            source, listener, args.allow_host, args.weights, args.max_batch, args.max_waiting
        )
    address, port = listener.getsockname()[:2]
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    print(f"{server.name}: try it at {url}, or give {url}/v1 to a client of OpenAI", flush=True)
    print("Ctrl-C ends the server", file=sys.stderr)
    if not is_loopback(address):
        print(
            f"everybody who reaches this machine at port {port} can use the model", file=sys.stderr
        )
    server.run()


def listen(host: str, port: int) -> socket.socket:
    """Open the server's port, before anything slow begins.

    Raises:
        UserError: another program has it, or the address is not one of this machine.
    """
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family)
    except (
        socket.gaierror,
        UnicodeError,
    ) as error:  # UnicodeError: it is not of the form of a name
        reason = getattr(error, "strerror", None) or "not the name of a machine"
        raise UserError(
            f"--host {host}: {reason}; give an address of this machine, or leave --host out"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(
            f"--host {host} --port {port}: {reason}; give another port, or --port 0 for a free one"
        ) from None


if __name__ == "__main__":
    main()
