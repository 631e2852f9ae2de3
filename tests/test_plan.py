import json
import subprocess
import sys

import pytest

from gptexp import plan
from gptexp.planning.device import list_devices


@pytest.fixture
def run_plan(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr("sys.argv", ["gptexp plan", *words])
        code = 0
        try:
            plan.main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return call


def test_gpt3_is_planned_on_named_devices(run_plan):
    words = ["model=gpt3-175b", "tokenizer=hf", "task=pretrain", "--json"]
    words += ["trainer.max_steps=95367", "trainer.global_batch_size=1536"]
    code, out, _ = run_plan(*words, "--device", "h100", "--mfu", "0.5", "--price", "2")
    values = json.loads(out)
    assert code == 0
    assert values["parameters"] == pytest.approx(175e9, rel=0.003)
    assert values["tokens"] == pytest.approx(300e9, rel=0.001)
    # Brown et al. 2020, table D.1: 3.14e23 without the attention's products
    assert values["flops"] == pytest.approx(3.14e23, rel=0.04)
    (device,) = values["devices"]
    assert device["seconds"] == pytest.approx(values["flops"] / (0.5 * 989e12))
    assert device["dollars"] == pytest.approx([2 * device["seconds"] / 3600] * 2)
    assert device["fits"] is False
    assert "trainer.strategy=fsdp" in device["change"][0]


def test_more_devices_share_the_time(run_plan):
    words = ["model=gpt2", "tokenizer=hf", "task=pretrain", "--json", "--device", "a100"]
    one, eight = (
        json.loads(run_plan(*words, f"trainer.devices={count}")[1])["devices"][0]
        for count in (1, 8)
    )
    assert one["seconds"] == pytest.approx(8 * eight["seconds"])
    assert one["device_hours"] == pytest.approx(eight["device_hours"])


def test_a_utilisation_that_no_product_reaches_is_named(run_plan):
    words = ["model=gpt2", "tokenizer=hf", "task=pretrain", "--device", "mi300x", "--mfu"]
    assert (
        "mi300x: --mfu 0.6 is too high: large matrix products reach 0.51"
        in run_plan(*words, "0.6")[1]
    )
    assert "too high" not in run_plan(*words, "0.5")[1]


def test_a_mixture_has_active_parameters(run_plan):
    _, out, _ = run_plan(
        "model=gpt4-class", "task=pretrain", "--device=h100", "model.vocab_size=100000"
    )
    assert "1,832,380,290,048" in out
    assert "278,642,316,288" in out


def test_a_plan_names_every_device_and_is_a_page(run_plan, own_folder):
    code, out, _ = run_plan(
        "model=nano",
        "task=pretrain",
        "--no-measure",
        "--html",
        "plan.html",
        "data.path='<b>'",
        "data=files",
    )
    page = (own_folder / "plan.html").read_text()
    assert code == 0
    for device in ("this machine", *list_devices()):
        assert device in out
        assert device in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_lengths_and_vocabulary_are_read_from_the_data(run_plan, pairs_file):
    words = ["task=translate", "model=nano", "data=files", f"data.path={pairs_file}", "--json"]
    _, out, _ = run_plan(*words, "--device", "l4", "--read-data")
    values = json.loads(out)
    assert values["tokens_per_sequence"] < 256
    assert values["vocabulary"] < 100
    assert not [text for text in values["assumptions"] if "vocabulary" in text]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--device", "h10"],
            "--device h10: is not known. Did you mean 'h100'? Allowed: here, a100",
        ),
        (["--mfu", "40"], "--mfu 40: must be more than 0 and at most 1, such as 0.4"),
        (["--price", "1e400"], "--price 1e400: must be a finite number"),
        (["--price=-1"], "--price -1: must be at least 0"),
        (["--html", "no/where.html"], "does not exist or cannot be written to"),
        (["--html", "/proc/plan.html"], "--html /proc/plan.html: cannot be written ("),
        (["model=smal"], "Did you mean 'small'?"),
        (["--devices=2"], "Did you mean --device?"),
    ],
)
def test_mistakes_are_answered_before_anything_is_measured(run_plan, words, message):
    code, out, error = run_plan(*words)
    assert (code, out) == (2, "")
    assert message in error


def test_help_and_mistakes_need_no_torch():
    program = (
        "import sys; sys.argv = ['plan', '--device', 'x']\n"
        "from gptexp import plan\n"
        "try: plan.main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 False\n"
