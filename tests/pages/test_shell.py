"""The frame of a page: nothing from data becomes HTML, and nothing executes that the page does not name."""

import json
import re

from gptexp.pages.markup import Html, json_script, render, table, tag
from gptexp.pages.shell import format_page

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>&\u2028"


def test_only_html_counts_as_html():
    assert render("<b>", tag("b", "a & b"), None, ["x", Html("<hr>")]) == (
        "&lt;b&gt;<b>a &amp; b</b>x<hr>"
    )
    assert tag("a", href='"x"', class_="c", hidden=True, title=None) == (
        '<a href="&quot;x&quot;" class="c" hidden></a>'
    )


def test_numbers_of_a_table_are_aligned():
    text = table(["metric", "value"], [["loss", "2.28"], ["sign", "-0.1 %"], ["when", "3 days"]])
    assert re.findall(r'class="number">([^<]*)', text) == ["2.28", "-0.1 %"]


def test_json_inside_of_a_page_ends_no_script():
    text = json_script("data", {"text": HOSTILE})
    assert text.count("<") == 2
    assert json.loads(text.split(">", 1)[1].rsplit("<", 1)[0]) == {"text": HOSTILE}


def test_a_page_executes_its_own_scripts_alone(own_folder, open_page):
    script = "document.title = JSON.parse(document.getElementById('data').textContent).text.length"
    file = own_folder / "page.html"
    content = [tag("p", HOSTILE), tag("p", HOSTILE, title=HOSTILE)]
    file.write_text(
        format_page("title", content, scripts=[script], data={"data": {"text": HOSTILE}})
    )
    page = open_page(file)
    assert page.title() == str(len(HOSTILE))
    assert page.locator("img").count() == 0
    assert "unsafe" not in page.locator("meta[http-equiv]").get_attribute("content")


def test_pages_follow_the_colours_of_the_system(own_folder, open_page):
    file = own_folder / "page.html"
    file.write_text(format_page("title", tag("p", "text")))
    colours = {
        scheme: open_page(file, color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert colours["light"] != colours["dark"]
