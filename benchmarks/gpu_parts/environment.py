"""The device, the versions and the commit that all figures belong to.

python benchmarks/gpu.py --only environment
"""

import torch
from measuring import Part

from gptexp.distributed.hardware import describe_device
from gptexp.runs.environment import describe_environment


def main() -> None:
    part = Part(__doc__)
    environment = describe_environment()
    part.report("time", environment["time"])
    part.report("commit", environment["commit"] or "not known: this is no git checkout")
    part.report("uncommitted changes", "yes" if environment["uncommitted"] else "no")
    part.report("cores", environment["machine"]["cpus"])
    part.report("Python", environment["python"])
    for name, version in environment["versions"].items():
        part.report(name, version or "not installed")
    for name, value in describe_device(torch.device(part.options.device)).items():
        part.report(f"device: {name}", value)


if __name__ == "__main__":
    main()
