"""The page of a run, as a browser shows it."""

import re

import pytest
from page_runs import HOSTILE, STEPS, add_insight, loss_at, write_run

from gptexp.pages.run_page import format_run_page, write_run_page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs") / "translate-nano-1a2b3c4d"
    folder = write_run(folder, seed=3, lr=0.03)
    add_insight(folder)
    folder.update_result(status="running")
    folder.update_result(status="finished")
    return write_run_page(folder)


def hover(page, share: float) -> str:
    """Move the mouse over the loss chart, to a share of the width of its curves; return the tooltip."""
    box = page.locator("figure[data-chart=loss] svg").bounding_box()
    page.mouse.move(box["x"] + 54 + share * (box["width"] - 68), box["y"] + 80)
    return page.locator("figure[data-chart=loss] .tip").inner_text()


def first_tick(page) -> str:
    return page.locator("figure[data-chart=loss] .tick-x").first.text_content()


def test_a_page_shows_the_values_under_the_mouse_and_zooms(page_file, open_page):
    page = open_page(page_file)
    figure = page.locator("figure[data-chart=loss]")
    assert figure.locator("path.curve").count() == 2
    assert len(figure.locator("path.curve.thin").get_attribute("d").split("L")) == STEPS
    assert re.match(r"100 steps\s+training\s+2\.328\s+validation\s+2\.428", hover(page, 0.5))
    box = figure.locator("svg").bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 90)
    page.mouse.up()
    assert int(first_tick(page)) > 50
    page.get_by_role("button", name="show everything").wait_for()
    page.mouse.dblclick(box["x"] + 500, box["y"] + 60)
    assert first_tick(page) == "0"
    page.get_by_role("button", name="tokens", exact=True).click()
    assert "10k tokens" in hover(page, 0.5)
    page.get_by_role("button", name="log scale of Loss").click()
    page.get_by_role("button", name="training", exact=True).click()
    assert figure.locator("path.curve").count() == 1


def test_a_page_works_by_keyboard(page_file, open_page):
    page = open_page(page_file)
    figure = page.locator("figure[data-chart=loss]")
    figure.locator("svg").focus()
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    assert f"{STEPS - 10} steps" in figure.locator(".tip").inner_text()
    page.keyboard.press("+")
    assert int(first_tick(page)) > 100
    page.keyboard.press("Escape")
    assert first_tick(page) == "0"
    figure.locator("summary").focus()
    page.keyboard.press("Enter")
    row = figure.locator("tbody tr").nth(19)
    assert row.inner_text().split("\t") == [
        "20",
        "2,000",
        "20G",
        "10 s",
        f"{loss_at(20):.4g}",
        f"{loss_at(20) + 0.1:.4g}",
    ]


def test_texts_of_data_do_nothing(page_file, open_page):
    page = open_page(page_file)
    assert page.title() == "translate-nano-1a2b3c4d"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == page_file.read_text().count("<script")
    assert page.locator(".sample .text").first.inner_text() == HOSTILE
    assert "samples/../../secret.png" in page.locator(".sample .text").nth(3).inner_text()


def test_tokens_have_their_loss_and_attention(page_file, open_page):
    page = open_page(page_file)
    tokens = page.locator(".tokens .token")
    assert tokens.nth(2).get_attribute("title") == "loss 0.2, likelihood 0.82"
    assert "loss-6" in tokens.nth(3).get_attribute("class")
    assert "“sea” reads most from “The”: 50 %" in page.locator("#attention-view").inner_text()
    page.locator("#attention-view svg").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert "“The” reads most from “The”: 100 %" in page.locator("#attention-view").inner_text()


def test_a_page_fits_on_a_phone_in_the_dark(page_file, open_page):
    page = open_page(page_file, width=390, height=844, color_scheme="dark", has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("figure[data-chart=loss] svg").tap()
    assert "training" in page.locator("figure[data-chart=loss] .tip").inner_text()


def test_the_account_of_a_run_is_complete(page_file):
    text = page_file.read_text()
    for part in (
        "58 to 65",
        "gptexp run task=translate seed=3",
        "<code>optim.lr</code></td><td><code>0.03</code></td><td><code>0.02</code>",
        "uncommitted changes",
        'left out</td><td class="number">93',
        "in 2 groups, each kept in one split",
        "<td>finished</td>",
    ):
        assert part in text, part
    changed = text.split('id="settings"')[1].split("<details")[0]
    assert "optim.lr" in changed
    assert "seed" in changed
    assert "trainer.max_steps" not in changed


def test_a_failed_run_has_a_page_with_the_reason(own_folder, open_page):
    file = write_run_page(write_run(own_folder / "failed", finished=False))
    page = open_page(file)
    assert "the disk is full" in page.locator(".error").inner_text()
    assert page.locator("path.curve").count() > 2


def test_a_run_without_records_has_a_page(own_folder):
    folder = write_run(own_folder / "bare", finished=False)
    for name in ("metrics.jsonl", "environment.json", "data.json", "result.json"):
        (folder.path / name).unlink()
    assert "no result" in format_run_page(folder)
