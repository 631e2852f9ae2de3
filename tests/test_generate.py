"""The verb, on random weights: each option reaches the generator, and each mistake gets one message."""

import argparse
import contextlib
import io
import json
import subprocess
import sys

import pytest
import torch

from gptexp import generate
from gptexp.config.schema import ByteConfig
from gptexp.data.tokenizers import build
from gptexp.errors import UserError
from gptexp.model import Transformer, TransformerConfig
from gptexp.model.hf import convert
from gptexp.sampling import OPTION_TEXTS

TOKENIZER = build(ByteConfig(), [])
PROMPT = "Return the"
SHAPE = {"layers": 2, "d_model": 32, "heads": 4, "kv_heads": 2, "d_ff": 48, "context": 64}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=TOKENIZER.vocab_size, **SHAPE))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():  # letters, and the two bytes of characters like é
        model.embedding.weight[[*range(65), *range(91, 97), *range(123, 194), *range(196, 260)]] = 0
    path = tmp_path / "model"
    path.mkdir()
    convert.save(model, path)
    TOKENIZER.save(path / "tokenizer.json")
    return path


@pytest.fixture
def run_generate(folder, monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(
            "sys.argv", ["generate", str(folder), PROMPT, "--max-new-tokens", "24", *words]
        )
        capsys.readouterr()
        code = 0
        try:
            generate.main()
        except SystemExit as ended:
            code = ended.code
        out, error = capsys.readouterr()
        assert code == (2 if "gptexp:" in error else 0)  # a slow machine prints stages, too
        return error if code else out

    return call


@pytest.mark.parametrize(
    "options", [[], ["--num-return-sequences", "3", "--seed", "7"], ["--temperature", "2"]]
)
def test_a_stream_prints_the_same_text(run_generate, options):
    assert run_generate("--stream", *options) == run_generate(*options)
    assert run_generate(*options) == run_generate(*options)


def test_an_answer_ends_before_a_stop_string(run_generate):
    options = ["--temperature", "1", "--seed", "3"]
    whole = run_generate(*options).removeprefix(PROMPT)
    for stop in (whole[3:5], whole[9:11]):
        expected = PROMPT + whole[: whole.index(stop)] + "\n"
        assert run_generate(*options, "--stop", "never", "--stop", stop) == expected
        assert run_generate(*options, "--stop", "never", "--stop", stop, "--stream") == expected


def test_options_change_the_answer(run_generate):
    greedy = run_generate("--temperature", "0")
    assert greedy != run_generate("--temperature", "0", "--repetition-penalty", "5")
    assert greedy != run_generate("--temperature", "0", "--no-repeat-ngram", "1")
    assert run_generate("--temperature", "1", "--min-p", "1") == greedy
    best = json.loads(run_generate("--num-beams", "4", "--num-return-sequences", "3", "--json"))[
        "outputs"
    ]
    assert len(set(best)) == 3
    assert run_generate("--num-beams", "4", "--length-penalty", "2") == PROMPT + best[0] + "\n"
    assert run_generate("--temperature", "0", "--weights", "auto").startswith(PROMPT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--top-p", "1.5"], "--top-p 1.5: must be above 0 and at most 1"),
        (["--num-beams", "0"], "--num-beams 0: must be at least 1"),
        (
            ["--num-beams", "2", "--num-return-sequences", "3"],
            "3 answers to one prompt: num_beams=2",
        ),
        (["--temperature", "0", "--num-return-sequences", "3"], "gives the same answer each time"),
        (["--num-return-sequences", "0"], "must be at least 1"),
        (["--max-new-tokens", "99"], "max_new_tokens=99: must be between 1 and 63"),
        (["--stream", "--num-beams", "2"], "--stream: "),
        (["--stream", "--json"], "--stream: "),
        (["--temperature", "-1"], "--temperature -1: must be at least 0"),
        (["--stop", ""], "--stop '': "),
        (["--weights", "int4"], "--weights int4: not known"),
    ],
)
def test_options_that_cannot_work_are_refused(run_generate, words, message):
    answer = run_generate(*words)
    assert message in answer
    assert "Traceback" not in answer


def test_an_empty_prompt_is_refused_as_an_empty_stdin_is():
    with pytest.raises(UserError, match="the prompt is empty"):
        generate._read_prompts(argparse.Namespace(prompt=" ", lines=False))


def test_help_describes_each_sampling_option(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["generate", "--help"])
    with pytest.raises(SystemExit):
        generate.main()
    printed = capsys.readouterr().out
    for name, text in OPTION_TEXTS.items():
        assert f"--{name.replace('_', '-')} N" in printed
        assert text in printed


def test_help_imports_no_torch():
    code = "import sys; from gptexp import generate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def answer_stdin(folder, monkeypatch, capsys):
    def call(text, *words):
        stdin = io.StringIO(text) if isinstance(text, str) else text
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.argv", ["generate", str(folder), *words, "--max-new-tokens", "6"])
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            generate.main()
        return capsys.readouterr()

    return call


def test_lines_of_stdin_are_one_prompt_or_answered_one_by_one(answer_stdin):
    one, other = (answer_stdin(text, "-").out for text in ("Return", "the"))
    together = answer_stdin("Return\nthe\n")
    assert together.out.startswith("Return\nthe")
    assert "2 lines are one prompt; --lines answers each of them" in together.err
    both = answer_stdin("Return\n\nthe\n", "--lines")
    lines = (answer.removesuffix("\n").replace("\n", "\\n") for answer in (one, "\n", other))
    assert both.out.splitlines() == list(lines)
    rows = answer_stdin("Return\nthe", "--lines", "--json").out.splitlines()
    assert [json.loads(row)["prompt"] for row in rows] == ["Return", "the"]


def test_bytes_of_stdin_are_utf8_with_line_ends_of_any_system(answer_stdin):
    stdin = io.TextIOWrapper(io.BytesIO("\ufeffä\r\nb\rc\n".encode()), "ascii", newline="\n")
    rows = answer_stdin(stdin, "--lines", "--json").out.splitlines()
    assert [json.loads(row)["prompt"] for row in rows] == ["ä", "b", "c"]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("", [], "stdin is empty: give a prompt"),
        (" \n\n", ["-"], "stdin is empty: give a prompt"),
        ("a", ["--lines", "--stream"], "--lines: prints one line for each answer"),
        ("a", ["the tree", "--lines"], "--lines: reads prompts from stdin; leave out 'the tree'"),
        ("a\udcff", [], "not UTF-8 text"),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_refused(answer_stdin, text, words, message):
    printed = answer_stdin(text, *words)
    assert message in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        ("the " * 500, "its beginning is cut by"),
        ("the <|sep|>", "<|sep|> is read as text, not as a special token"),
        ("the", ""),
    ],
)
def test_a_prompt_that_is_not_read_as_it_is_written_is_reported(answer_stdin, text, losses):
    printed = answer_stdin(text)
    assert losses in printed.err
    assert ("the model does not read the prompt" in printed.err) == bool(losses)
    assert printed.out
