"""The entries of metrics.jsonl that measure speed. They differ between equal runs, so comparisons leave them out.

The speed/... entries cover the steps since the line before. The first line of a process leaves out its first steps,
which are slow.
"""

from typing import Any

TOKENS_PER_SECOND = "speed/tokens_per_second"  # over all ranks, without validation and checkpoints
STEP_MS = "speed/step_ms"
TFLOPS = "speed/tflops_per_device"  # achieved: operations of the model, none that are recomputed
MFU = "speed/mfu"  # share of the device's dense bf16 peak; only for GPUs whose peak is known
PEAK_MEMORY = "speed/peak_memory_gib"  # of the rank that needs most, since the process started
DATA = "speed/data_share"  # of all time since the line before: waiting for batches
VALIDATION = "speed/validation_share"
CHECKPOINTS = "speed/checkpoint_share"
COMPILATION = "speed/compile_share"  # torch.compile, which the speed of the steps leaves out
COMPILE_SECONDS = "speed/compile_seconds"  # since the process started; only with trainer.compile
COMPILED_GRAPHS = "speed/compiled_graphs"  # since the process started; ever more are a fault
SLOWEST_RANK = (
    "speed/slowest_rank"  # with several ranks: by its own work, without waiting for others
)
SLOWEST_RATIO = "speed/slowest_rank_ratio"  # of its own work to the median of the others

SHARES = {
    DATA: "data",
    VALIDATION: "validation",
    CHECKPOINTS: "checkpoints",
    COMPILATION: "compilation",
}
SHOWN_SHARE = 0.01


def drop_timings(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of metrics.jsonl without the entries that measure time and memory."""
    return {
        name: value
        for name, value in row.items()
        if name != "seconds" and not name.startswith("speed/")
    }


def _decimals(value: float) -> int:
    """Return the number of decimals that a measured value deserves."""
    return 0 if value >= 100 else 1


def describe_speed(row: dict[str, Any]) -> list[str]:
    """Return the speed of a row of metrics.jsonl as short texts; shares of lost time from one per cent on."""
    texts = []
    if TOKENS_PER_SECOND in row:
        texts += [
            f"{row[TOKENS_PER_SECOND]:,.0f} tokens/s",
            f"{row[STEP_MS]:,.{_decimals(row[STEP_MS])}f} ms/step",
        ]
    if MFU in row:
        texts.append(f"MFU {row[MFU]:.1%}")
    elif TFLOPS in row:
        texts.append(f"{row[TFLOPS]:.3g} TFLOP/s")
    if PEAK_MEMORY in row:
        texts.append(f"{row[PEAK_MEMORY]:.2f} GiB")
    if COMPILED_GRAPHS in row:
        texts.append(f"{row[COMPILED_GRAPHS]} compiled graphs")
    texts += [
        f"{row[name]:.0%} {loss}"
        for name, loss in SHARES.items()
        if row.get(name, 0) >= SHOWN_SHARE
    ]
    return texts
