import pytest

from gptexp.config.items import find_items, is_balanced, replace_items


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("a b", ["a b"]),
        ("a, 'b,c' ,d", ["a", "'b,c'", "d"]),
        ("[a,{x: 12:30, y:[z]}]", ["a", "x", "12:30", "y", "z"]),
        ("it's,b", ["it's", "b"]),
        ("a\\,b", ["a\\,b"]),
        ("[]", []),
        ("''", ["''"]),
    ],
)
def test_the_items_of_a_value_are_found(value, items):
    assert [item.text for item in find_items(value, with_brackets=True)] == items


def test_items_are_replaced_in_their_places():
    items = find_items("[ab, c ,ab]", with_brackets=True)
    assert replace_items("[ab, c ,ab]", {items[1]: "'x'", items[2]: "yy"}) == "[ab, 'x' ,yy]"
    assert [item.text for item in find_items("[a],b", with_brackets=False)] == ["[a]", "b"]


@pytest.mark.parametrize(
    ("value", "balanced"), [("[a,{b:c}]", True), ("[a", False), ("a]", False), ("['[']", True)]
)
def test_brackets_outside_of_quotes_are_counted(value, balanced):
    assert is_balanced(value) == balanced
