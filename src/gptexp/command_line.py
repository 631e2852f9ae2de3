"""Parse the command line of a verb, and answer each mistake with the word as it has to be typed.

Options may stand before, between and behind the other words. A text may begin with a dash, as in
`generate latest "-7 degrees"`: only a word that has the form of an option is one.
"""

import argparse
import difflib
import errno
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gptexp.characters import DASHES, describe_odd_characters, replace_odd_characters
from gptexp.errors import UserError, nearest
from gptexp.files import is_stdout, is_stream, temporary_file

LONE_DASHES = "\0--"  # stands for the text `--`, which argparse takes for its separator
TYPES: dict[Any, str] = {int: "a whole number", float: "a number, such as 0.5"}

Options = dict[str, argparse.Action]


class CommandParser(argparse.ArgumentParser):
    """A parser that raises UserError, and explains a word instead of printing the usage.

    Args:
        explain_option: makes the error of a verb whose words are KEY=VALUE for a word and the next one, where the word
            has the form of an option and is none. Without it, texts may begin with a dash.
    """

    def __init__(
        self,
        verb: str,
        description: str | None,
        explain_option: Callable[[str, str], UserError] | None = None,
    ) -> None:
        super().__init__(
            f"gptexp.{verb}", description=description, formatter_class=argparse.RawTextHelpFormatter
        )
        self.verb, self.explain_option = verb, explain_option

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Parse the words of a command.

        Raises:
            UserError: an option or a value of one is not known, or a word is missing or too many.
        """
        words = sys.argv[1:] if args is None else list(args)
        options, texts = sort_words(words, self._option_string_actions, self.explain_option)
        if not {"-h", "--help"} & set(options):
            self._check_count(texts)
        hidden = [LONE_DASHES if text == "--" else text for text in texts]
        parsed = super().parse_args([*options, "--", *hidden])
        for name, value in vars(parsed).items():
            if isinstance(value, list):
                setattr(parsed, name, ["--" if item == LONE_DASHES else item for item in value])
            elif value == LONE_DASHES:
                setattr(parsed, name, "--")
        return parsed

    def _check_count(self, texts: list[str]) -> None:
        """Refuse words that are missing, or too many, such as those of a prompt without quotes."""
        actions = [action for action in self._actions if not action.option_strings]
        required = [action for action in actions if action.nargs is None]
        if len(texts) < len(required):
            missing = required[len(texts)]
            raise UserError(
                f"{missing.dest.upper()} is missing: {missing.help}. `gptexp {self.verb} --help` has examples"
            )
        if len(texts) > len(actions) and not any(action.nargs == "*" for action in actions):
            if not actions:
                raise UserError(f"{texts[0]}: gptexp {self.verb} takes no words but options")
            extra = texts[len(actions)]
            if option := as_option(extra, self._option_string_actions):
                raise UserError(f"{extra}: type {option}")
            for action in self._actions:
                if action.option_strings and extra in (action.choices or ()):
                    raise UserError(f"{extra}: type {action.option_strings[-1]} {extra}")
            last = actions[-1]
            joined = " ".join(texts[len(actions) - 1 :])
            raise UserError(
                f"{extra}: one word too many. If it belongs to {last.dest.upper()}, put all of it into "
                f"quotes: {quote_for_shell(joined)}"
            )

    def error(self, message: str) -> NoReturn:
        if both := re.fullmatch(r"argument (\S+): not allowed with argument (\S+)", message):
            raise UserError(f"{both[1]}: cannot stand beside {both[2]}; give one of them")
        raise UserError(message)


def sort_words(
    words: list[str],
    options: Options,
    explain_option: Callable[[str, str], UserError] | None = None,
) -> tuple[list[str], list[str]]:
    """Separate options with their values, as `--option=value`, from the other words. Words behind `--` are no options.

    Raises:
        UserError: an option is not known, has no value or one that it does not take.
    """
    flags: list[str] = []
    texts: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--" and rest:
            return flags, texts + rest
        typed, equals, value = word.partition("=")
        name = _find_option(typed, options)
        if not name:
            _refuse_unknown_option(word, rest[0] if rest else "", options, explain_option)
            texts.append(word)
            continue
        action = options[name]
        if action.nargs == 0:
            if equals:
                raise UserError(f"{word}: {name} takes no value; type {name}")
            flags.append(name)
            continue
        if not equals and action.nargs == "?":  # Hydra's --info, which may have a word behind it
            value = rest.pop(0) if rest and rest[0] in (action.choices or ()) else ""
            flags += [name, *([value] if value else [])]
            continue
        if not equals:
            if not rest or _find_option(rest[0], options):
                is_text = rest and action.metavar == "TEXT"  # which may begin with a dash
                following = rest[0] if is_text else (action.metavar or "VALUE")
                separator = "=" if name.startswith("--") else " "
                raise UserError(f"{name}: has no value; type {name}{separator}{following}")
            value = rest.pop(0)
        _check_value(name, value, action)
        value = LONE_DASHES if value == "--" else value
        # argparse takes `-c=job` for the value `=job`
        flags += [f"{name}={value}"] if name.startswith("--") else [name, value]
    return flags, texts


def as_option(word: str, options: Options) -> str:
    """Return a word such as temperature=0.8 as the option that it names, --temperature 0.8, or ""."""
    name, equals, value = word.partition("=")
    option = f"--{name.strip().strip('-').replace('_', '-')}"
    if not equals or option not in options:
        return ""
    return option if options[option].nargs == 0 else f"{option} {quote_for_shell(value.strip())}"


def add_outputs_option(parser: CommandParser) -> None:
    """Add --outputs, the folder in which a verb finds runs and sweeps by their names."""
    parser.add_argument(
        "--outputs",
        default="outputs",
        metavar="FOLDER",
        help="folder of the runs (default: outputs)",
    )


def add_weights_option(parser: CommandParser) -> None:
    """Add --weights, the format in which a verb computes answers."""
    parser.add_argument(
        "--weights",
        default="float32",
        choices=("float32", "bfloat16", "auto"),
        help="format of the weights; auto: the faster one on this machine (default: float32)",
    )


def output_file(option: str, name: str | None) -> Path | None:
    """Return the file that an option names; None: it names none.

    Raises:
        UserError: the file cannot be written; nothing has been read yet.
    """
    if name is None:
        return None
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            raise UserError(f"--{option} {name}: is a folder; give a file")
        if is_stream(path):
            _check_stream(path)
            return path
        temporary = temporary_file(path)
        parent = temporary.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UserError(
                f"--{option} {name}: the folder {parent} does not exist or cannot be written to"
            )
        temporary.touch()  # only an attempt tells: the permissions let root write everywhere
        temporary.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--{option} {name}: cannot be written ({reason}); give another file"
        ) from None
    return path


def _check_stream(path: Path) -> None:
    """Refuse disks and sockets, and streams that cannot be written to. Nothing is opened: a pipe would wait.

    Raises:
        OSError: the stream is one of them.
    """
    if path.is_block_device() or (path.is_socket() and not is_stdout(path)):
        raise OSError(errno.EINVAL, "is a disk or a socket")
    if not os.access(path, os.W_OK) and not is_stdout(path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def quote_for_shell(word: str) -> str:
    """Quote a word as a person types it, with single quotes where that is possible."""
    if re.fullmatch(r"[\w./:=,+%@-]+", word):
        return word
    if "'" not in word:
        return f"'{word}'"
    return '"' + re.sub(r'([\\"$`])', r"\\\1", word) + '"'


def _find_option(name: str, options: Options) -> str:
    """Return the option of this name, or the one whose name begins with it; "" if there is none."""
    if name in options:
        return name
    if not name.startswith("--") or name == "--":
        return ""
    longer = [option for option in options if option.startswith(name)]
    if len(longer) > 1:
        raise UserError(f"{name}: may be {' or '.join(longer)}; type one of them")
    return longer[0] if longer else ""


def _refuse_unknown_option(
    word: str,
    following: str,
    options: Options,
    explain_option: Callable[[str, str], UserError] | None,
) -> None:
    """Refuse a word that has the form of an option; let a text pass that begins with a dash.

    Raises:
        UserError: the word is no text.
    """
    if not word.startswith(("-", *DASHES)) or len(word) < 2:
        return
    name, equals, value = word.partition("=")
    plain = replace_odd_characters(name)
    candidates = [plain, f"--{plain.strip('-').replace('_', '-')}"]
    if plain != name:
        if right := next((item for item in candidates if item in options), None):
            raise UserError(f"{word}: {describe_odd_characters(name)}; type {right}{equals}{value}")
        if not explain_option:
            return
    long_form = re.fullmatch(r"--?[A-Za-z][\w.-]*", plain)
    if not long_form and not explain_option:
        return
    long_options = [option for option in options if option.startswith("--")]
    # A text with one dash, `-hello`, is refused only where it is an option but for the second dash.
    cutoff = 0.75 if plain.startswith("--") or explain_option else 1
    close = difflib.get_close_matches(candidates[1], long_options, n=1, cutoff=cutoff)
    if close:
        raise UserError(f"{word}: there is no such option. Did you mean {close[0]}?")
    if explain_option:
        raise explain_option(word, following)
    if plain.startswith("--"):
        raise UserError(
            f"{word}: there is no such option. Options: {', '.join(long_options)}. "
            f"If it is no option, type -- before it: -- {quote_for_shell(word)}"
        )


def _check_value(name: str, value: str, action: argparse.Action) -> None:
    """Refuse a value of an option that is no number where one is needed, or none of the choices."""
    if action.choices is not None and value not in action.choices:
        choices = [str(choice) for choice in action.choices]
        raise UserError(
            f"{name} {value}: not known.{nearest(value, choices)} Allowed: {', '.join(choices)}"
        )
    if action.type in TYPES and callable(action.type):
        try:
            action.type(value)
        except ValueError:
            odd = describe_odd_characters(value)
            note = f" ({value} {odd})" if odd else ""
            raise UserError(f"{name} {value}: must be {TYPES[action.type]}{note}") from None
        if not math.isfinite(float(value)):
            raise UserError(f"{name} {value}: must be a finite number")
