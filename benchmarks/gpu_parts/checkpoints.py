"""The time that a training step waits for a checkpoint of GPT-2 with AdamW: benchmarks/checkpoints.py.

python benchmarks/gpu.py --only checkpoints
"""

import re
import subprocess
import sys
from pathlib import Path

from measuring import Part

SCRIPT = Path(__file__).parents[1] / "checkpoints.py"


def main() -> None:
    part = Part(__doc__)
    command = [sys.executable, str(SCRIPT), "--device", part.options.device]
    if part.options.toy:
        command += ["--layers", "1", "--repeats", "1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout)
    for name, seconds in re.findall(r"^  (\w[\w ]*?) +([\d.]+)  ", done.stdout, re.MULTILINE):
        part.report(f"a checkpoint {name}", float(seconds), "s")


if __name__ == "__main__":
    main()
