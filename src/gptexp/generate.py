"""Let a trained model answer a prompt.

python -m gptexp.generate latest "def read_csv(path):" --num-return-sequences 3 --temperature 0.8
python -m gptexp.generate outputs/translate-nano-1a2b3c4d "March 3, 2024"
python -m gptexp.generate outputs/caption-nano-1a2b3c4d picture.png
python -m gptexp.generate outputs/speak-small-1a2b3c4d "four hundred and two" --out speech.wav
python -m gptexp.generate Qwen/Qwen3-0.6B-Base "The sea is"
python -m gptexp.generate outputs/chat-small-1a2b3c4d --chat --system "Answer in one word."
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptexp.chat_terminal import chat_in_terminal
from gptexp.checkpoints.find_weights import find_weights
from gptexp.cli import print_json
from gptexp.command_line import CommandParser, add_weights_option, as_option
from gptexp.data.conversation import Conversation
from gptexp.data.read_conversation import read_conversation, read_conversation_file, with_system
from gptexp.errors import UserError, exits_cleanly
from gptexp.sampling import RANGES, Sampling
from gptexp.stages import stage
from gptexp.stdin_text import decode_text, read_stdin_as_utf8

if TYPE_CHECKING:
    from gptexp.data.tokenizers import Tokenizer
    from gptexp.generation.generator import Generator
    from gptexp.generation.prompt import Prompt
    from gptexp.tasks.answerer import GenerateText

SEPARATOR = "\n---\n"  # between several answers


def _parse_arguments() -> argparse.Namespace:
    parser = CommandParser("generate", __doc__)
    parser.add_argument("run", help="a run, 'latest', an exported folder or a Hugging Face name")
    parser.add_argument(
        "prompt",
        nargs="?",
        default="-",
        help="text to answer, or an image file; '-' (the default) reads the text from stdin",
    )
    parser.add_argument(
        "--lines",
        action="store_true",
        help="answer each line of stdin; an answer is a line, and '\\n' stands for a line break in it",
    )
    parser.add_argument(
        "--chat",
        action="store_true",
        help="answer one message a line, each with the messages and answers before it; /reset forgets them, "
        "/system TEXT sets the system prompt, Ctrl-D ends",
    )
    parser.add_argument(
        "--system", metavar="TEXT", help="system prompt of a chat, or of the message to answer"
    )
    parser.add_argument(
        "--messages",
        type=Path,
        metavar="FILE.json",
        help='conversation to answer: [{"role": "user", "content": "..."}], or {"messages": [...], "tools": [...]}',
    )
    parser.add_argument(
        "--num-return-sequences",
        type=int,
        default=1,
        metavar="N",
        help="number of answers (default: 1)",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="largest number of tokens of an answer (default: that of the task)",
    )
    sampling = parser.add_argument_group(
        "sampling", "defaults: those of the task; several answers are sampled at temperature 0.8"
    )
    for option in fields(Sampling):
        sampling.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=type(option.default),
            metavar="N",
            help=option.metadata["doc"],
        )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="text that ends an answer; can be repeated",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="print each answer while it is generated; not with --num-beams, --mbr-samples and --json",
    )
    add_weights_option(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write audio to (default: speech.wav)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    args = parser.parse_args()
    if typed := as_option(args.prompt, parser._option_string_actions):
        print(f"{args.prompt}: is read as the prompt; the option is {typed}", file=sys.stderr)
    args.explicit = [name for name in vars(args) if getattr(args, name) != parser.get_default(name)]
    return args


@exits_cleanly
def main() -> None:
    args = _parse_arguments()
    _check_options(args)
    source = find_weights(args.run)
    prompts = _read_prompts(args)

    with stage("loading PyTorch"):
        from gptexp.checkpoints.load_model import load, load_task_config
        from gptexp.distributed.devices import pick_device
        from gptexp.generation.generator import Generator
        from gptexp.generation.gpu_decoder import uses_bfloat16
        from gptexp.tasks.answerer import GenerateText
        from gptexp.tasks.chat_session import ChatSession, chat_answerer
        from gptexp.tasks.task import make_task
        from gptexp.tasks.unread_input import describe_unread_input

    with stage("loading the model"):
        model, tokenizer = load(source)
    device = pick_device()
    if device.type == "cuda" and uses_bfloat16(args.weights):
        model.bfloat16()
    model.to(device)
    task = make_task(*load_task_config(source, model))
    layout, answerer = task.layout, task.answerer
    if args.chat or args.messages or args.system is not None:
        answerer = chat_answerer(task, tokenizer, model.config, args.max_new_tokens)
        layout = answerer.layout
    generator = Generator(model, tokenizer.eos_ids, args.weights)
    if isinstance(answerer, GenerateText):
        _check_token_options(args)
        if args.chat:
            session = ChatSession(generator, tokenizer, answerer, args.system or "")
            with _explain_errors():
                chat_in_terminal(session, _sampling_of(args, answerer), args.stop)
    else:
        _refuse_token_options(args, task.config.kind, model.config.predicts_features)
    for typed in prompts:
        if args.lines and not typed.strip():  # an empty answer keeps both sides in step
            _print_answers(args, source.path, typed, [""] * args.num_return_sequences)
            continue
        task_input = layout.parse_prompt(_add_system(typed, args.system), tokenizer)
        unread = describe_unread_input(
            layout, answerer, task_input, tokenizer, model.config, args.max_new_tokens
        )
        if unread:
            print(f"the model does not read the prompt as it is written: {unread}", file=sys.stderr)
        if isinstance(answerer, GenerateText):
            prompt = layout.prompt(task_input, tokenizer)
            echo = typed if layout.stream else ""
            if args.stream:
                _stream(args, generator, tokenizer, answerer, prompt, echo)
                continue
            answers = _generate(args, generator, tokenizer, answerer, prompt)
        else:
            outputs = answerer.answer(model, tokenizer, [task_input])
            answers = [_save_audio(x, args) if hasattr(x, "save") else str(x) for x in outputs]
            echo = ""
        _print_answers(args, source.path, typed, answers, echo)


def _add_system(prompt: str | Conversation, text: str | None) -> str | Conversation:
    """Return a prompt with the system prompt of --system; None: as it is."""
    if text is None:
        return prompt
    conversation = read_conversation(prompt) if isinstance(prompt, str) else prompt
    return with_system(conversation, text)


@contextmanager
def _explain_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_options(args: argparse.Namespace) -> None:
    for name, (is_valid, accepted) in RANGES.items():
        value = getattr(args, name)
        if value is not None and not is_valid(value):
            raise UserError(f"--{name.replace('_', '-')} {value:g}: must be {accepted}")
    count = args.num_return_sequences
    if count < 1:
        raise UserError(f"--num-return-sequences {count}: must be at least 1")
    if count > 1 and args.temperature == 0 and (args.num_beams or 1) == 1:
        raise UserError(
            "--temperature 0 gives the same answer each time: raise it, ask for one sequence, or use --num-beams"
        )
    if args.stream and (args.json or max(args.num_beams or 1, args.mbr_samples or 1) > 1):
        raise UserError(
            "--stream: prints tokens as they are chosen, which --json, --num-beams and --mbr-samples "
            "do not allow"
        )
    if "" in args.stop:
        raise UserError("--stop '': must be a text that an answer can end with")
    if args.chat:
        conflicts = ("prompt", "lines", "messages", "json", "out", "num_return_sequences")
        if both := [name for name in conflicts if name in args.explicit]:
            option = "the prompt" if both[0] == "prompt" else f"--{both[0].replace('_', '-')}"
            raise UserError(
                f"--chat: reads messages from stdin and prints one answer to each; leave out {option}"
            )
    if args.messages and args.prompt != "-":
        raise UserError(f"--messages: is the conversation to answer; leave out {args.prompt!r:.60}")
    if args.messages and args.lines:
        raise UserError("--messages: is one conversation; leave out --lines")
    if args.lines and args.prompt != "-":
        raise UserError(f"--lines: reads prompts from stdin; leave out {args.prompt!r:.60}")
    if args.lines and (args.stream or args.out):
        raise UserError("--lines: prints one line for each answer, which --stream and --out do not")


def _read_prompts(args: argparse.Namespace) -> Iterable[Any]:
    """Return the prompt, or with --lines each line of stdin, which is read as it comes.

    With --messages it is a conversation. With --chat there is none: messages are read later.
    """
    if args.prompt != "-":
        if not args.prompt.strip():
            raise UserError("the prompt is empty: give one after the run, or on stdin")
        return [decode_text(args.prompt)]
    if args.messages:
        return [read_conversation_file(args.messages)]
    if sys.stdin is None:
        raise UserError("there is no prompt: give one after the run, or on stdin")
    read_stdin_as_utf8()
    if args.chat:
        return []
    if sys.stdin.isatty():
        print("reading the prompt from the keyboard; end it with Ctrl-D", file=sys.stderr)
    if args.lines:
        return (decode_text(line.rstrip("\n")) for line in sys.stdin)
    text = decode_text(sys.stdin.read().strip("\n"))
    if not text.strip():
        raise UserError("stdin is empty: give a prompt after the run, or on stdin")
    if lines := text.count("\n"):
        print(f"{lines + 1} lines are one prompt; --lines answers each of them", file=sys.stderr)
    return [text]


def _refuse_token_options(args: argparse.Namespace, kind: str, predicts_features: bool) -> None:
    """Refuse options of token-by-token generation for a task that answers in another way."""
    allowed = {"run", "prompt", "json", "out" if predicts_features else "lines"}
    for name in args.explicit:
        if name not in allowed:
            option = name.replace("_", "-")
            raise UserError(
                f"--{option}: has no effect with task={kind}, which does not choose tokens"
            )
    if args.out and not args.out.resolve().parent.is_dir():
        raise UserError(f"--out {args.out}: there is no folder {args.out.parent}")


def _check_token_options(args: argparse.Namespace) -> None:
    if args.out:
        raise UserError(
            f"--out {args.out}: is for audio; to write a text to a file, add > {args.out}"
        )


def _sampling_of(args: argparse.Namespace, answerer: "GenerateText") -> Sampling:
    overrides = {option.name: getattr(args, option.name) for option in fields(Sampling)}
    if args.stream:
        overrides |= {"num_beams": 1, "mbr_samples": 1}
    return answerer.sampling.with_overrides(args.num_return_sequences, **overrides)


def _max_new_tokens(args: argparse.Namespace, answerer: "GenerateText") -> int:
    return answerer.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens


def _generate(
    args: argparse.Namespace,
    generator: "Generator",
    tokenizer: "Tokenizer",
    answerer: "GenerateText",
    prompt: "Prompt",
) -> list[str]:
    with _explain_errors():
        return answerer.generate(
            generator,
            tokenizer,
            prompt,
            args.num_return_sequences,
            _max_new_tokens(args, answerer),
            _sampling_of(args, answerer),
            args.stop,
        )


def _stream(
    args: argparse.Namespace,
    generator: "Generator",
    tokenizer: "Tokenizer",
    answerer: "GenerateText",
    prompt: "Prompt",
    echo: str,
) -> None:
    from gptexp.generation.stream_text import stream_text

    decode = answerer.decoder(prompt, tokenizer)
    with _explain_errors():
        sampling = _sampling_of(args, answerer)
        for number, seed in enumerate(sampling.seeds(args.num_return_sequences)):
            steps = generator.stream(
                [prompt], _max_new_tokens(args, answerer), sampling, seeds=[seed]
            )
            tokens = (token for [token] in steps if token is not None)
            print(SEPARATOR + echo if number else echo, end="", flush=True)
            for piece in stream_text(tokens, decode, args.stop):
                print(piece, end="", flush=True)
    print()


def _save_audio(audio: Any, args: argparse.Namespace) -> str:
    path = args.out or Path("speech.wav")
    audio.save(path)
    return str(path)


def _print_answers(
    args: argparse.Namespace, run: Path, prompt: Any, answers: list[str], echo: str = ""
) -> None:
    if args.json:
        source = {"prompt": prompt}
        if isinstance(prompt, Conversation):
            source = {"messages": prompt.to_dicts()}
        print_json({"run": str(run), **source, "outputs": answers})
    elif args.lines:
        for answer in answers:
            print((echo + answer).replace("\n", "\\n"), flush=True)
    else:
        print(SEPARATOR.join(echo + answer for answer in answers))


if __name__ == "__main__":
    main()
