"""A plan in words and tables, which the terminal and the page both show."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gptexp.planning.device import PRICE_OPTION, THIS_MACHINE, price_date
from gptexp.planning.device_memory import GIB, MARGIN
from gptexp.planning.run_plan import DevicePlan, RunPlan
from gptexp.wording import format_count

SMALLEST = 0.01  # dollars and device-hours that are printed
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
MAX_MEMORY_COLUMNS, MAX_PRICE_NOTES = 3, 3


@dataclass
class Section:
    """A heading with a table, and notes below it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]]
    notes: list[str] = field(default_factory=list)


def describe_plan(plan: RunPlan) -> list[Section]:
    """Return the sections of a plan."""
    return [_sizes(plan), _memory(plan), _devices(plan)]


def _sizes(plan: RunPlan) -> Section:
    workload = plan.workload
    length = f"{workload.tokens:,} tokens"
    if workload.source:
        length = f"{workload.source:,} + {workload.tokens:,} tokens"
    rows: list[Sequence[str]] = [("parameters", f"{plan.parameters:,}")]
    if plan.active_parameters != plan.parameters:
        rows.append(("active parameters of a token", f"{plan.active_parameters:,}"))
    rows += [
        ("vocabulary", f"{workload.model.vocab_size:,}"),
        ("training", f"{workload.steps:,} steps of {workload.sequences:,} sequences of {length}"),
        (
            "tokens",
            f"{workload.total_tokens:,}, which is {_ratio(workload.total_tokens / plan.active_parameters)} a parameter",
        ),
        (
            "compute-optimal tokens",
            f"{plan.optimal_tokens:,} (20 a parameter): trainer.max_steps={plan.optimal_steps}",
        ),
    ]
    if plan.flops is not None:
        per_token = plan.flops / workload.total_tokens
        rows.append(("FLOPs", f"{plan.flops:.3g} in all, {per_token:.3g} a token"))
    if plan.speed:
        speed = f"{plan.speed.step_seconds:.3g} s a step, {plan.speed.flops_per_second / 1e9:,.0f} GFLOP/s"
        rows.append(("measured here", f"{speed} ({plan.speed.description})"))
    notes = [f"assumed: {text}" for text in workload.assumptions]
    return Section("Sizes", (), rows, notes)


def _memory(plan: RunPlan) -> Section:
    groups = _group_by_memory(plan.devices)
    kinds = list(dict.fromkeys(kind for group in groups for kind in group[0].memory.parts))
    rows: list[Sequence[str]] = []
    for kind in kinds:
        counts = [group[0].memory.parts.get(kind) for group in groups]
        rows.append((kind, *("" if count is None else format_bytes(count) for count in counts)))
    rows.append(("in all", *(format_bytes(group[0].memory.total) for group in groups)))
    names = [_name_group(group) for group in groups]
    notes = []
    for name, (device, *_) in zip(names, groups, strict=True):
        size = format_count(device.memory.micro_batch, "sequence")
        note = f"{name}: the peak is at the {device.memory.moment}, with {size} at once"
        if device.memory.on_host:
            note += f"; {format_bytes(device.memory.on_host)} more on the host"
        notes.append(note)
    if plan.speed and plan.speed.peak_bytes is not None:
        notes.append(f"the measured steps have taken {format_bytes(plan.speed.peak_bytes)}")
    return Section("Memory of one device", ("", *names), rows, notes)


def _group_by_memory(devices: list[DevicePlan]) -> list[list[DevicePlan]]:
    """Return the first groups of devices on which the same lies in memory, as on most GPUs."""
    groups: dict[tuple[tuple[str, int], ...], list[DevicePlan]] = {}
    for device in devices:
        groups.setdefault(tuple(device.memory.parts.items()), []).append(device)
    return list(groups.values())[:MAX_MEMORY_COLUMNS]


def _name_group(group: list[DevicePlan]) -> str:
    first, *others = group
    return f"{_name(first)} and {len(others)} more" if others else _name(first)


def _name(device: DevicePlan) -> str:
    return "this machine" if device.key == THIS_MACHINE else device.key


def _devices(plan: RunPlan) -> Section:
    columns = ("device", "number", "memory", "of", "fits", "time", "device-hours", "dollars")
    rows: list[Sequence[str]] = []
    notes = []
    for device in plan.devices:
        runs = device.fits is not False  # else its time and price are those of no run
        fits = {None: "not known", True: "yes", False: "no"}[device.fits]
        rows.append(
            (
                _name(device),
                f"{device.devices:,}",
                format_bytes(device.memory.total),
                "" if device.limit is None else format_bytes(device.limit),
                fits,
                "" if device.seconds is None or not runs else format_seconds(device.seconds),
                _hours(device.device_hours) if runs else "",
                _dollars(device) if runs else "",
            )
        )
        if device.note:
            notes.append(f"{_name(device)}: {device.note}")
    notes += _describe_changes(plan.devices)
    return Section(
        "Devices", columns, rows, [*notes, *_describe_prices(plan.devices), *plan.remarks]
    )


def _describe_prices(devices: list[DevicePlan]) -> list[str]:
    """Return where the prices are from; those of many devices only by the file that has them."""
    priced = [x for x in devices if x.price and x.dollars and x.fits is not False]
    if len(priced) > MAX_PRICE_NOTES:
        return [
            f"dollars: from the lowest to the highest list price of a few providers, on demand, on {price_date()} or "
            f"some weeks before (planning/prices.yaml names them); --price replaces them"
        ]
    return [
        f"{_name(device)}: {device.price.low:.2f} to {device.price.high:.2f} dollars for an hour of one device: "
        f"{device.price.source}"
        for device in priced
        if device.price and device.price.source != PRICE_OPTION
    ]


def _describe_changes(devices: list[DevicePlan]) -> list[str]:
    """Return what makes the run fit where it does not, once for all devices with the same change."""
    by_words: dict[str, list[DevicePlan]] = {}
    for device in devices:
        if device.fits is False:
            words = " ".join(device.change[0]) if device.change else ""
            by_words.setdefault(words, []).append(device)
    notes = []
    for words, group in by_words.items():
        names = ", ".join(map(_name, group))
        if words:
            sizes = [device.change[1] for device in group if device.change]
            notes.append(f"{names}: fits with {words} ({format_bytes(max(sizes))})")
        else:
            notes.append(
                f"{names}: no change of trainer.micro_batch_size, activation_checkpointing, strategy, devices or "
                f"cpu_offload makes it fit; take a smaller model"
            )
    if by_words:
        notes.append(f"a run fits where it takes at most {MARGIN:.0%} of the memory")
    return notes


def _dollars(device: DevicePlan) -> str:
    if device.dollars is None:
        return ""
    low, high = device.dollars
    if high < SMALLEST:
        return f"< {SMALLEST}"
    if low == high:
        return _amount(low)
    return f"{_amount(low)} to {_amount(high)}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return ""
    return f"< {SMALLEST}" if hours < SMALLEST else _ratio(hours)


def _amount(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars < 100 else f"{dollars:,.0f}"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_bytes(count: int) -> str:
    """Return bytes in MiB or GiB, with three digits."""
    value, unit = (count / GIB, "GiB") if count >= GIB else (count / 2**20, "MiB")
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def format_seconds(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for size, unit in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{_ratio(seconds / size)} {unit}"
    return f"{seconds:.2g} s"
