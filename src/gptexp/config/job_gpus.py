"""The GPUs that a launcher reserves for each job of a sweep: a resolver of the YAML file hydra/launcher/on_ray."""

from gptexp.machine import list_gpus


def gpus_per_job(accelerator: str, devices: int, address: str | None) -> int:
    """Return how many GPUs Ray reserves for a job: without a reservation it hides them all.

    Args:
        address: of a Ray cluster; None: a Ray on this machine, which may have no GPU.
    """
    if accelerator == "cpu" or (accelerator == "auto" and not address and not list_gpus()):
        return 0
    return devices
