"""Show the records of a run beside its results: the data, the environment, and each start and end of a process."""

from collections.abc import Iterator
from typing import Any

from gptexp.pages.markup import Content, Html, pairs, render, table, tag
from gptexp.pages.numbers import format_time
from gptexp.pages.shell import command_block
from gptexp.runs.environment import reproduce_command
from gptexp.runs.run_folder import RunFolder
from gptexp.wording import format_count

SHOWN_SOURCES = ("packages", "files", "parts")  # lists of sources, in tables of their own
MAX_SOURCES = 300


def data_html(record: dict[str, Any]) -> Html:
    """Return the sources, the splits and the account of the data, from data.json."""
    corpus = record.get("corpus", {})
    facts = {
        key: value
        for key, value in corpus.items()
        if value and not (key in SHOWN_SOURCES and isinstance(value, dict))
    }
    facts["fingerprint"] = record.get("fingerprint")
    described = ", ".join(f"{key} {_as_text(value)}" for key, value in facts.items() if value)
    splits = [
        [name, *(f"{counts.get(key, 0):,}" for key in ("sequences", "tokens", "targets", "bytes"))]
        for name, counts in record.get("splits", {}).items()
        if counts.get("sequences")
    ]
    parts: list[Content] = [tag("p", described)]
    if splits:
        parts.append(table(["split", "sequences", "tokens", "targets", "bytes of targets"], splits))
    if rows := list(_account_rows(record.get("account", {}))):
        parts += [tag("h3", "Account"), table(["", "examples", "", "first"], rows)]
    if sources := list(_source_rows(corpus)):
        rows = sources[:MAX_SOURCES]
        more = f" (the first {MAX_SOURCES})" if len(sources) > MAX_SOURCES else ""
        summary = tag("summary", format_count(len(sources), "source") + more)
        parts.append(tag("details", summary, table(["source", "version or hash", "licence"], rows)))
    return render(parts)


def environment_html(record: dict[str, Any]) -> Html:
    """Return the machine, the versions and the uncommitted changes, from environment.json."""
    machine = record.get("machine", {})
    device = record.get("device", {})
    versions = {name: value for name, value in record.get("versions", {}).items() if value}
    rows: list[tuple[str, Content]] = [
        ("started", format_time(str(record.get("time", "")))),
        ("device", _as_text(device)),
        ("processes", str(record.get("processes", 1))),
        ("machine", _as_text(machine)),
        ("commit", tag("code", str(record.get("commit") or "not in a git checkout"))),
        ("versions", _as_text({"Python": record.get("python", ""), **versions})),
        *((name, str(value)) for name, value in record.get("slurm", {}).items()),
    ]
    parts: list[Content] = [pairs(rows)]
    if changes := record.get("uncommitted"):
        summary = tag("summary", "uncommitted changes of the source")
        parts.append(tag("details", summary, tag("pre", str(changes), tabindex=0)))
    return render(parts)


def history_html(folder: RunFolder) -> Html | None:
    """Return each start and end of a process that worked on the run; None: the run has no history."""
    events = folder.history()
    rows: list[list[Content]] = []
    for number, event in enumerate(events):
        status = str(event.get("status", ""))
        place = f"on {event['host']}" if event.get("host") else ""
        step = event.get("step")
        if number and status == events[number - 1].get("status") == "running":
            next_start = (
                f"the next start goes on after step {step:,}"
                if step
                else "the next one starts anew"
            )
            rows.append(["", "killed", "", f"ended without a word; {next_start}"])
        detail = str(event.get("error") or (place if status == "running" else ""))
        label = {"running": "started" if not step else "resumed"}.get(status, status)
        rows.append(
            [
                format_time(str(event.get("time", ""))),
                label,
                f"step {step:,}" if step else "",
                detail,
            ]
        )
    return table(["time", "", "", ""], rows) if rows else None


def reproduce_html(record: dict[str, Any]) -> Html | None:
    """Return the command that computes the run again, from environment.json; None: it is not recorded."""
    if not record.get("command"):
        return None
    command = reproduce_command([str(word) for word in record["command"]])
    parts: list[Content] = [command_block(command)]
    if commit := record.get("commit"):
        changed = " with the uncommitted changes below" if record.get("uncommitted") else ""
        parts.append(tag("p", "at commit ", tag("code", str(commit)), changed, class_="note"))
    return render(parts)


def _account_rows(account: dict[str, Any]) -> Iterator[list[Content]]:
    if account.get("examples"):
        yield ["read", f"{account['examples']:,}", "", ""]
    for reason, tally in account.get("left_out", {}).items():
        yield ["left out", f"{tally['count']:,}", reason, tally["first"]]
    for part, cut in account.get("cuts", {}).items():
        reason = f"{part}, by {cut['longest']:,} tokens at most: {cut['setting']}"
        yield ["cut", f"{cut['examples']:,}", reason, ""]
    for name in ("reader_notes", "notes", "special_tokens"):
        for note, tally in account.get(name, {}).items():
            yield [name.replace("_", " "), f"{tally['count']:,}", note, tally["first"]]
    if lossy := account.get("text", {}).get("lossy"):
        yield ["texts", f"{lossy:,}", "with characters that the tokenizer does not give back", ""]
    if account.get("duplicates"):
        groups = f"in {format_count(account['duplicate_groups'], 'group')}, each kept in one split"
        yield ["near-duplicates", f"{account['duplicates']:,}", groups, ""]
    for remark in account.get("remarks", []):
        yield ["splits", "", remark, ""]


def _source_rows(corpus: dict[str, Any]) -> Iterator[list[Content]]:
    """Yield the name, version and licence of each source, of the forms that corpora describe themselves in."""
    for name in SHOWN_SOURCES:
        sources = corpus.get(name)
        for source, value in sources.items() if isinstance(sources, dict) else ():
            if isinstance(value, dict):
                yield [
                    source,
                    _as_text(value.get("version", "")),
                    _as_text(value.get("licence", "")),
                ]
            elif isinstance(value, list):
                for file in value:
                    yield [f"{source}: {_as_text(file)}", "", "not stated"]
            else:
                yield [source, _as_text(value), "not stated"]


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_as_text, value))
    return str(value)
