"""Try generated bad inputs on the verbs: whatever a person brings, it works, or one message says what is wrong.

python benchmarks/bad_inputs.py --examples 2000 --out bad_inputs.json

Hypothesis draws overrides, YAML files, data files of every layout, damaged checkpoints, prompts and environments. Each
case runs in an empty folder, in a process that is forked from one that has imported gptexp. A case is at fault if it
ends with a traceback or another exit code than 0 and 2, takes longer than the limit, prints more than a few lines, or
leaves a half-written folder. Faults are printed with the command that shows them.
"""

# ruff: noqa: SIM905 (words are easier to read without quotes)

import argparse
import bz2
import gzip
import io
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

TINY = """
    model=nano model.layers=1 model.d_model=16 model.heads=2 model.context=32 tokenizer=char init=scratch
    trainer.max_steps=1 trainer.global_batch_size=2 trainer.val_every=1 trainer.progress=false
    trainer.accelerator=cpu logger=none task.samples=1
""".split()
PAIRS = ["task=summarize", "task.max_target_tokens=8", *TINY]
PAIR_FILE = [*PAIRS, "data=files", "data.path=p.jsonl"]
KEYS = """
    seed name tags init resume outputs plugins task model data optim.lr optim.grad_clip trainer.max_steps
    trainer.precision trainer.devices trainer.global_batch_size trainer.micro_batch_size model.context model.heads
    model.dropout model.window_pattern model.rope_scaling task.max_target_tokens task.num_beams task.metrics data.path
    data.fields data.fields.source data.template data.encoding data.split data.val_fraction data.limit
    tokenizer.vocab_size schedule schedule.warmup_steps callbacks logger logger.project
""".split()
VALUES = [
    *("", " ", "a b", "\u200b5", "\u00a03", "\u20135", "“x”", "ü", "\ud83d", "\x01", "9" * 30, "x" * 300),
    *"""
    null ~ no on yes true None 12:30 0123 1e3 -1 0 3.5 nan inf 1e400 1_000 0x10 2024-01-01 [] {} [1,2 {a:1} [a,{b:c}]
    a,b ' " ${oc.env:NO_SUCH} ${nothing} ${seed} a=b = ../.. / . /dev/null /proc/self/mem ~nobody/x * [a] a(1) \\ #1
    range(3) choice(1,2) glob(*) !!python/object:os.system
    """.split(),
]  # fmt: skip
VARIABLES = """
    HOME TMPDIR GPTEXP_CACHE XDG_CACHE_HOME HF_HOME OMP_NUM_THREADS WANDB_MODE WANDB_PROJECT WANDB_API_KEY WANDB_DIR
    WANDB_BASE_URL LC_ALL LANG PYTHONIOENCODING RANK WORLD_SIZE LOCAL_RANK MASTER_PORT SLURM_JOB_ID SLURM_NTASKS
    SLURM_JOB_NAME SLURM_PROCID SLURM_RESTART_COUNT COLUMNS TERM NO_COLOR TZ CUDA_VISIBLE_DEVICES HYDRA_FULL_ERROR
""".split()
VARIABLE_VALUES = [
    *("", " ", "a b", "ü", "x" * 300),
    *"/ /nonexistent/x /dev/null /proc p.jsonl 0 -1 1 2 nonsense C ascii latin-1 de_DE.ISO-8859-1".split(),
]
PAIR_LINES = "".join(
    json.dumps({"source": f"room {i} is {i * 7 % 13}", "target": f"r{i}"}) + "\n" for i in range(24)
).encode()


@dataclass
class Case:
    kind: str
    verb: str
    words: list[str]
    files: dict[str, bytes] = field(default_factory=lambda: {"p.jsonl": PAIR_LINES})
    environment: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    is_trained: bool = False  # starts with a finished run
    damage: tuple[int, str] | None = None  # number of the run's file, and what is done to it

    def command(self) -> str:
        return shlex.join(["python", "-m", f"gptexp.{self.verb}", *self.words])


words = (
    st.sampled_from(VALUES) | st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)
)
texts = st.text(st.characters(codec="utf-8"), max_size=60)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
records = st.dictionaries(
    st.sampled_from(["source", "target", "text", "messages", "", "a.b"]) | texts, values, max_size=4
)
tables = st.lists(st.lists(texts, max_size=4), max_size=6)


def choose(*options: Any) -> Any:
    return st.sampled_from(options)


def without_nul(words: list[str]) -> list[str]:
    """Return the words as a shell can pass them."""
    return [word.replace("\0", "\x02") for word in words]


@st.composite
def overrides(draw: st.DrawFn) -> Case:
    key = draw(st.sampled_from(KEYS) | st.text(max_size=8))
    if draw(st.booleans()) and len(key) > 2:
        mistake = draw(st.integers(0, len(key) - 1))
        key = key[:mistake] + key[mistake + 1 :]
    prefix = draw(choose("", "", "", "", "+", "++", "~", "--", "-", "\u2013"))
    sign = draw(choose("=", "=", "=", "=", " = ", "==", ":", "=+", ""))
    changes = [f"{prefix}{key}{sign}{draw(words)}"]
    if draw(st.booleans()):
        changes.append(f"{draw(st.sampled_from(KEYS))}={draw(words)}")
    flags = draw(choose([], [], [], ["-m"], ["--cfg", "job"], ["--multirun"], ["--resolve"]))
    return Case("overrides", "run", without_nul([*flags, *PAIR_FILE, *changes]))


@st.composite
def yaml_files(draw: st.DrawFn) -> Case:
    head = draw(
        choose(
            "defaults: [config, {override task: summarize}, _self_]\n",
            "defaults: [config, _self_]\n",
            "",
        )
    )
    body = draw(
        st.text(max_size=60)
        | st.builds("{}: {}\n".format, choose("seed", "name", "tags", "data", "defaults"), words)
        | st.builds("trainer:\n  {}: {}\n".format, choose("max_steps", "precision", "x"), words)
        | st.builds("data: {{fields: {}}}\n".format, words)
    )
    content = (head + body).encode("utf8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        content = draw(st.binary(max_size=40))
    files = {"c/mine.yaml": content, "p.jsonl": PAIR_LINES}
    line = ["-cd", "c", "-cn", "mine", *TINY, "data=files", "data.path=p.jsonl"]
    return Case("yaml", "run", line, files)


def write_table(rows: list[list[str]], separator: str, end: str) -> bytes:
    return end.join(separator.join(row) for row in rows).encode("utf8", "surrogatepass")


def well_formed_files() -> dict[str, bytes]:
    """Return a table of pairs in every layout, by extension."""
    rows = [json.loads(line) for line in PAIR_LINES.splitlines()]
    table = pa.Table.from_pylist(rows)
    parquet, arrow, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("pairs.jsonl", PAIR_LINES)
    quoted = [["source", "target"], *([f'"{row["source"]}"', row["target"]] for row in rows)]
    return {
        ".jsonl": PAIR_LINES,
        ".json": json.dumps(rows).encode(),
        ".csv": write_table(quoted, ",", "\r\n"),
        ".tsv": write_table(quoted, "\t", "\n"),
        ".parquet": parquet.getvalue(),
        ".arrow": arrow.getvalue(),
        ".zip": archive.getvalue(),
        ".jsonl.gz": gzip.compress(PAIR_LINES, mtime=0),
        ".jsonl.bz2": bz2.compress(PAIR_LINES),
    }


WELL_FORMED = well_formed_files()


@st.composite
def damaged_files(draw: st.DrawFn) -> Case:
    """Draw a well-formed file of which some bytes were changed, removed or added, or whose extension is another's."""
    ending, content = draw(st.sampled_from(sorted(WELL_FORMED.items())))
    damaged = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(damaged)))
        damaged[place : place + draw(choose(0, 1, 1, 1, 8, 100))] = draw(st.binary(max_size=3))
    if draw(st.integers(0, 7)) == 0:
        ending = draw(st.sampled_from(sorted(WELL_FORMED)))
    line = [*PAIRS, "data=files", f"data.path=d{ending}"]
    return Case(
        "data", draw(choose("run", "run", "inspect", "audit")), line, {f"d{ending}": bytes(damaged)}
    )


@st.composite
def data_files(draw: st.DrawFn) -> Case:
    content = draw(
        st.binary(max_size=200)
        | st.lists(records, max_size=6).map(lambda rows: json.dumps(rows).encode())
        | st.lists(records, max_size=6).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())
        | st.lists(records, max_size=6).map(
            lambda rows: "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(
                "utf-16", "surrogatepass"
            )
        )
        | st.builds(write_table, tables, choose(",", ";", "\t", "|"), choose("\n", "\r\n", "\r"))
        | st.lists(texts, max_size=8).map(
            lambda lines: ("source,target\n" + "\n".join(f"{x},{x[:9]}" for x in lines)).encode()
        )
        | st.lists(texts, max_size=8).map(
            lambda lines: "\n".join(lines).encode("cp1252", "replace")
        )
    )
    ending = draw(choose(*WELL_FORMED, ".txt", ".md", "", ".xyz", ".csv.zst"))
    match draw(choose("as it is", "as it is", "cut", "gzip", "byte order mark", "nul bytes")):
        case "cut":
            content = content[: len(content) // 2]
        case "gzip":
            content, ending = gzip.compress(content, mtime=0), ending.removesuffix(".gz") + ".gz"
        case "byte order mark":
            content = b"\xef\xbb\xbf" + content
        case "nul bytes":
            content = content[:10] + b"\0\0" + content[10:]
    name = draw(choose("d", "a b", "ü", "it's", "a,b", "-d", "[d]", ".d", "f/d")) + ending
    task = draw(
        choose(PAIRS, *([f"task={task}", *TINY] for task in ("pretrain", "extract", "nsp")))
    )
    path = draw(choose(f"data.path={name}", f"data.path='{name}'", "data.path=."))
    more = draw(
        choose(
            [],
            [],
            ["data.split=tail"],
            ["data.val_fraction=0", "data.test_fraction=0"],
            ["data.fields.source=a.b"],
        )
    )
    verb = draw(choose("run", "run", "inspect", "audit"))
    return Case("data", verb, [*task, "data=files", path, *more], {name: content})


@st.composite
def checkpoints(draw: st.DrawFn) -> Case:
    from_run = [word for word in PAIR_FILE if word != "init=scratch"]
    verb, line = draw(
        choose(
            ("run", PAIR_FILE),
            ("run", [*PAIR_FILE, "trainer.max_steps=3"]),
            ("run", [*from_run, "init=latest", "seed=2"]),
            ("run", [*from_run, "resume=latest", "trainer.max_steps=3"]),
            ("generate", ["latest", "abc", "--max-new-tokens", "2"]),
            ("evaluate", ["latest"]),
            ("export", ["latest", "exported"]),
            ("replay", ["latest"]),
        )
    )
    damage = draw(
        st.tuples(st.integers(0, 30), choose("cut", "empty", "flip", "remove", "text", "folder"))
    )
    return Case("checkpoint", verb, line, is_trained=True, damage=damage)


@st.composite
def prompts(draw: st.DrawFn) -> Case:
    prompt = draw(words | texts | choose("-", "--", "-x", "--help-me", "nothing.png", "x" * 5000))
    flags = """
        --max-new-tokens --temperature --top-k --top-p --seed --num-beams --stop --out --num-return-sequences --weights
    """.split()
    options = draw(st.lists(st.tuples(st.sampled_from([*flags, "--x"]), words), max_size=2))
    switches = draw(choose([], [], ["--json"], ["--stream"], ["--lines"]))
    run = draw(choose("latest", "latest", "latest", "nothing", ".", "p.jsonl", "outputs"))
    parts = [[run], [prompt], [word for option in options for word in option], switches]
    line = without_nul([word for part in draw(st.permutations(parts)) for word in part])
    verb = draw(choose("generate", "generate", "generate", "evaluate", "export"))
    return Case("prompt", verb, line, stdin=draw(st.binary(max_size=30)), is_trained=True)


@st.composite
def environments(draw: st.DrawFn) -> Case:
    environment = draw(
        st.dictionaries(
            st.sampled_from(VARIABLES), st.sampled_from(VARIABLE_VALUES), min_size=1, max_size=3
        )
    )
    verb, line = draw(
        choose(
            ("run", [*PAIR_FILE, "seed=7"]),
            ("run", [*(word for word in PAIR_FILE if word != "logger=none"), "logger=wandb"]),
            ("run", [*(word for word in PAIR_FILE if word != "logger=none"), "logger=csv"]),
            ("inspect", PAIR_FILE),
            ("generate", ["latest", "abc"]),
            ("evaluate", ["latest"]),
        )
    )
    is_trained = verb in ("generate", "evaluate")
    return Case("environment", verb, line, environment=environment, is_trained=is_trained)


KINDS = {
    "overrides": overrides(),
    "yaml": yaml_files(),
    "data": data_files() | damaged_files(),
    "checkpoint": checkpoints(),
    "prompt": prompts(),
    "environment": environments(),
}


def damage_file(folder: Path, number: int, how: str) -> None:
    """Damage one file of the run in `folder`."""
    files = [
        path
        for path in (folder / "outputs").rglob("*")
        if path.is_file() and ".locks" not in path.parts
    ]
    file = sorted(files)[number % len(files)]
    content = file.read_bytes()
    middle = len(content) // 2
    match how:
        case "cut":
            file.write_bytes(content[:middle])
        case "empty":
            file.write_bytes(b"")
        case "flip" if content:
            flipped = bytes([content[middle] ^ 255])
            file.write_bytes(content[:middle] + flipped + content[middle + 1 :])
        case "remove":
            file.unlink()
        case "text":
            file.write_bytes(b"x\n")
        case "folder":
            file.unlink()
            file.mkdir()


def prepare_folder(case: Case, folder: Path) -> None:
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if case.damage:
        damage_file(folder, *case.damage)
    (folder / ".stdin").write_bytes(case.stdin)


def run_case(case: Case, folder: Path, limit: float) -> tuple[int | None, float, str]:
    """Run a case in a fork; return its exit code (None: `limit` seconds were too short), seconds, and output."""
    prepare_folder(case, folder)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        run_verb(case, folder)
    code = None
    while code is None and time.monotonic() - start < limit:
        pid, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if pid else None
        time.sleep(0.01)
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    files = (folder / name for name in (".stdout", ".stderr"))
    output = "".join(file.read_text("utf8", "backslashreplace") for file in files if file.exists())
    return code, time.monotonic() - start, output


def run_verb(case: Case, folder: Path) -> None:
    """Run the verb in this process, which is a fork, and end it."""
    os.chdir(folder)
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name, flags in (
        (0, ".stdin", os.O_RDONLY),
        (1, ".stdout", create),
        (2, ".stderr", create),
    ):
        os.dup2(os.open(name, flags, 0o600), number)
    os.environ.update({"GPTEXP_CACHE": str(folder / ".cache"), **case.environment})
    encoding = os.environ.get("PYTHONIOENCODING") or "utf-8"
    try:
        for stream in (sys.stdin, sys.stdout):
            stream.reconfigure(encoding=encoding)  # type: ignore[union-attr]
        sys.stderr.reconfigure(encoding=encoding, errors="backslashreplace")  # type: ignore[union-attr]
    except LookupError:
        os._exit(0)  # Python itself does not start
    sys.argv = [f"gptexp.{case.verb}", *case.words]
    code: Any = 0
    try:
        runpy.run_module(f"gptexp.{case.verb}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else 1)


def find_fault(code: int | None, folder: Path, output: str, limit: float) -> str | None:
    """Return the reason why the outcome of a case is not one that a person should meet; None: it is fine."""
    lines = output.strip().splitlines()
    if code is None:
        return f"still running after {limit:.0f} s"
    if "Traceback (most recent call last)" in output:
        errors = [line for line in lines if re.match(r"^[\w.]*(Error|Exception|Interrupt)\b", line)]
        return f"traceback: {errors[-1][:150] if errors else lines[-1][:150]}"
    if code not in (0, 2):
        return f"exit code {code}: {lines[-1][:150] if lines else ''}"
    if code == 2 and not lines:
        return "exit code 2 without a message"
    if code == 2 and len(lines) > 12:
        return f"a message of {len(lines)} lines"
    for config in (folder / "outputs").glob("[!.]*/config.yaml"):
        if not (config.parent / "result.json").exists():
            return "a run folder without result.json"
    if leftovers := list(folder.rglob(".*.tmp")):
        return f"left behind: {leftovers[0].name}"
    return None


class Attempts:
    """Runs cases, counts their outcomes and keeps the faults."""

    def __init__(self, work: Path, limit: float) -> None:
        self.limit, self.folder, self.trained = limit, work / "case", work / "trained"
        self.counts: Counter[str] = Counter()
        self.faults: list[dict[str, Any]] = []
        self.trained.mkdir()
        code, _, output = run_case(Case("", "run", PAIR_FILE), self.trained, 600)
        if code != 0:
            sys.exit(output)

    def attempt(self, case: Case) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if case.is_trained:
            shutil.copytree(self.trained, self.folder)
        self.folder.mkdir(exist_ok=True)
        code, seconds, output = run_case(case, self.folder, self.limit)
        self.counts[f"{case.kind}: exit code {code}"] += 1
        fault = find_fault(code, self.folder, output, self.limit)
        if fault and not (case.damage and "without result.json" in fault):  # the damage itself
            self.counts["faults"] += 1
            files = {name: repr(content) for name, content in case.files.items()}
            files.pop("p.jsonl", None)
            self.faults.append(
                {
                    "fault": fault,
                    "command": case.command(),
                    "environment": case.environment,
                    "files": files,
                    "damage": case.damage,
                    "output": output[-2000:],
                    "seconds": round(seconds, 1),
                }
            )
            print(f"{fault}\n    {case.command()[-300:]!a} {case.environment}", flush=True)
        if self.counts.total() % 200 == 0:
            print(dict(self.counts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=10, help="seconds that a case may take")
    parser.add_argument("--only", choices=sorted(KINDS), help="one kind of cases")
    parser.add_argument("--out", type=Path, help="JSON file for the counts and the faults")
    args = parser.parse_args()
    # One thread and no network; the forked process must not have started other threads.
    os.environ.update(
        OMP_NUM_THREADS="1", WANDB_SILENT="true", WANDB_MODE="offline", HF_HUB_OFFLINE="1"
    )
    import gptexp.tasks.prepare
    import gptexp.training.fit  # noqa: F401

    cases = KINDS[args.only] if args.only else st.one_of(*KINDS.values())
    with tempfile.TemporaryDirectory(prefix="bad-inputs-", ignore_cleanup_errors=True) as work:
        attempts = Attempts(Path(work), args.limit)
        search = settings(
            max_examples=args.examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(args.seed)(search(given(cases)(attempts.attempt)))()
    for outcome, count in sorted(attempts.counts.items()):
        print(f"{count:6} {outcome}")
    if args.out:
        report = {"counts": attempts.counts, "faults": attempts.faults}
        args.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
