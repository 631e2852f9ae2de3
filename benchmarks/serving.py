"""Measure what a shared batch is worth: the same requests to `gptexp serve`, one after the other and N at once.

python benchmarks/serving.py base                 # two minutes on one core
python benchmarks/serving.py RUN --at-once 1 4 16 --tokens 64

The figures are tokens a second of CPU time of the server and its clients, which are one process, and the ratio to
requests one after the other. The settings take turns, and the best of the repetitions counts.
"""

import argparse
import json
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from gptexp.checkpoints.find_weights import find_weights
from gptexp.serving.run_server import RunningServer
from gptexp.serving.served_model import ServedModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--weights", default="float32")
    args = parser.parse_args()
    model = ServedModel.load(find_weights(args.run), args.weights)
    server = RunningServer(model, socket.create_server(("127.0.0.1", 0)))
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{server.listener.getsockname()[1]}/v1/completions"

    def ask(number: int) -> int:
        body = {"prompt": f"The {number}", "max_tokens": args.tokens, "seed": number}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            return json.load(response)["usage"]["completion_tokens"]

    try:
        best = dict.fromkeys(args.at_once, 0.0)
        for _ in range(args.repeat):
            for count in args.at_once:
                started = time.process_time()
                with ThreadPoolExecutor(count) as pool:
                    tokens = sum(pool.map(ask, range(args.requests)))
                best[count] = max(best[count], tokens / (time.process_time() - started))
    finally:
        server.uvicorn.should_exit = True
        thread.join()
    print("| requests at once | tokens a CPU second | ratio |\n|---|---|---|")
    for count, speed in best.items():
        print(f"| {count} | {speed:,.0f} | {speed / best[args.at_once[0]]:.2f} |")


if __name__ == "__main__":
    main()
