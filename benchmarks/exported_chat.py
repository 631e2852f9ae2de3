"""Compare greedy answers of a chat run with those of transformers from its export, over held-out conversations.

    gptexp export RUN out
    OMP_NUM_THREADS=1 python benchmarks/exported_chat.py RUN out          150 answers: half a minute of one core

Each answer is given the true history before it, here by GPT.chat, and there by apply_chat_template and generate.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from gptexp.api import GPT
from gptexp.data.conversation import Conversation
from gptexp.runs.run_folder import find_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("exported", type=Path)
    parser.add_argument("--answers", type=int, default=150)
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.exported)
    model = AutoModelForCausalLM.from_pretrained(args.exported)
    gpt = GPT.from_pretrained(args.run)
    length = gpt.task.config.max_new_tokens
    same = total = 0
    for history in read_histories(Path(find_run(args.run).read_record("data")["store"])):
        inputs = tokenizer.apply_chat_template(
            history.to_dicts(), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        prompt = inputs.input_ids.shape[1]
        if prompt > gpt.model.config.context - length:  # gptexp would leave out the oldest turns
            continue
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=length, do_sample=False)
        theirs = tokenizer.decode(output[0, prompt:], skip_special_tokens=True)
        ours = gpt.chat({"messages": history.to_dicts()}, max_new_tokens=length)
        total, same = total + 1, same + (ours == theirs)
        if ours != theirs:
            print(f"here   {ours!r}\nthere  {theirs!r}")
        if total == args.answers:
            break
    print(f"{same} of {total} greedy answers are the same text")


def read_histories(store: Path) -> Iterator[Conversation]:
    """Yield the messages before each answer of the test split."""
    for line in (store / "test.jsonl").read_text("utf8").splitlines():
        conversation = Conversation.from_json(json.loads(line)["conversation"])
        for number, message in enumerate(conversation.messages):
            if message.role == "assistant":
                yield Conversation(conversation.messages[:number], conversation.tools)


if __name__ == "__main__":
    main()
