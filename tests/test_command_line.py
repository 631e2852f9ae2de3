"""Every verb parses its command line in one way, and answers a mistake with the word to type."""

import os
from pathlib import Path

import pytest

from gptexp.command_line import CommandParser, as_option, output_file, quote_for_shell
from gptexp.errors import UserError


@pytest.fixture
def parser() -> CommandParser:
    parser = CommandParser("generate", "")
    parser.add_argument("run", help="a run")
    parser.add_argument("prompt", nargs="?", default="-", help="a text")
    parser.add_argument("--max-new-tokens", type=int, metavar="N")
    parser.add_argument("--temperature", type=float, metavar="N")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT")
    parser.add_argument("--weights", choices=("float32", "bfloat16"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser


@pytest.mark.parametrize(
    "words",
    [
        ["latest", "On day", "--max-new-tokens", "4", "--stream"],
        ["--max-new-tokens", "4", "--stream", "latest", "On day"],
        ["latest", "--max-new-tokens=4", "On day", "--stream"],
        ["--stream", "latest", "--max-new", "4", "--", "On day"],
    ],
)
def test_options_stand_anywhere(parser, words):
    args = parser.parse_args(words)
    assert (args.run, args.prompt, args.max_new_tokens, args.stream) == (
        "latest",
        "On day",
        4,
        True,
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "-7degrees",
        "-7 degrees",
        "-- and then",
        "-",
        "- item",
        "-hello",
        "--7",
        "—Yes, he said",
        "-x=1",
        "--no way",
    ],
)
def test_a_prompt_may_begin_with_a_dash(parser, prompt):
    assert parser.parse_args(["latest", prompt, "--json"]).prompt == prompt
    assert parser.parse_args(["--json", "--", "latest", prompt]).prompt == prompt


def test_a_prompt_may_be_two_dashes(parser):
    assert parser.parse_args(["--json", "latest", "--"]).prompt == "--"
    assert parser.parse_args(["latest", "--", "--"]).prompt == "--"


@pytest.mark.parametrize(
    ("words", "stop"),
    [(["--stop", "--"], "--"), (["--stop", "-x"], "-x"), (["--stop=--json"], "--json")],
)
def test_the_value_of_an_option_may_begin_with_a_dash(parser, words, stop):
    assert parser.parse_args(["latest", *words]).stop == [stop]
    assert parser.parse_args(["latest", "--temperature", "-1"]).temperature == -1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "RUN is missing: a run"),
        (["latest", "On", "day", "3"], "PROMPT, put all of it into quotes: 'On"),
        (["latest", "--max-tokens", "4"], "--max-tokens: there is no such option. Did you mean --max-new-tokens?"),
        (["latest", "--max_new_tokens=4"], "option. Did you mean --max-new-tokens?"),
        (["latest", "-json"], "Did you mean --json?"),
        (["latest", "--verbose"], "-- --verbose"),
        (["latest", "—json"], "—json: has EM DASH (U+2014); type --json"),
        (["latest", "–-max-new-tokens=4"], "has EN DASH (U+2013); type --max-new-tokens=4"),
        (["latest", "--json\u200b"], "has ZERO WIDTH SPACE (U+200B); type --json"),
        (["latest", "--s", "x"], "may be --stop or --stream"),
        (["latest", "--stop"], "--stop: has no value; type --stop=TEXT"),
        (["latest", "--max-new-tokens", "--json"], "has no value; type --max-new-tokens=N"),
        (["latest", "--stop", "--json"], "--stop: has no value; type --stop=--json"),
        (["latest", "--json=yes"], "--json=yes: --json takes no value; type --json"),
        (["latest", "--max-new-tokens", "4.5"], "--max-new-tokens 4.5: must be a whole number"),
        (["latest", "--temperature", "0,8"], "--temperature 0,8: must be a number, such as 0.5"),
        (["latest", "--temperature", "−1"], "has MINUS SIGN (U+2212)"),
        (["latest", "--weights", "float23"], "--weights float23: not known. Did you mean 'float32'"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_the_word_to_type(parser, words, message):
    with pytest.raises(UserError) as error:
        parser.parse_args(words)
    assert message in str(error.value)


def test_a_word_too_many_that_an_option_takes_is_answered_with_the_option(parser):
    with pytest.raises(UserError, match="bfloat16: type --weights bfloat16"):
        parser.parse_args(["latest", "a", "bfloat16"])
    with pytest.raises(UserError, match=r"temperature=0\.8: type --temperature 0\.8"):
        parser.parse_args(["latest", "a", "temperature=0.8"])


@pytest.mark.parametrize(
    ("word", "option"),
    [
        ("max_new_tokens=4", "--max-new-tokens 4"),
        ("-temperature = 0.8", "--temperature 0.8"),
        ("json=true", "--json"),
        ("x=3", ""),
        ("temperature", ""),
    ],
)
def test_a_word_that_reads_like_an_option_is_recognised(parser, word, option):
    assert as_option(word, parser._option_string_actions) == option


def test_a_word_is_quoted_as_a_person_types_it():
    assert quote_for_shell("seed=1") == "seed=1"
    assert quote_for_shell('name="a b"') == "'name=\"a b\"'"
    assert quote_for_shell("it's $5") == '"it\'s \\$5"'


def test_the_file_of_an_option_may_be_a_pipe_or_a_link_and_is_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("pipe", "link", "new"):
        assert output_file("html", str(tmp_path / name)) == tmp_path / name
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link"}


@pytest.mark.parametrize("name", ["circle", "nowhere", "n" * 300])
def test_a_file_that_cannot_be_written_is_refused_by_its_option(tmp_path, name):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "no" / "such")
    with pytest.raises(UserError, match=f"--html .*{name}: .*cannot be written"):
        output_file("html", str(tmp_path / name))
