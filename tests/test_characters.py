from gptexp.characters import describe_odd_characters, replace_odd_characters, reveal_invisible


def test_invisible_signs_and_lookalikes_are_named():
    assert (
        describe_odd_characters("seed\u200b=–1")
        == "has ZERO WIDTH SPACE (U+200B), EN DASH (U+2013)"
    )
    assert describe_odd_characters("\ufeffa\x07\udcff") == (
        "has ZERO WIDTH NO-BREAK SPACE (U+FEFF), U+0007, byte 0xff, which is not UTF-8"
    )
    assert describe_odd_characters("naïve корпус, 👩\u200d🚀") == ""
    assert reveal_invisible("a\u00a0b\n") == "a<NO-BREAK SPACE (U+00A0)>b\n"


def test_plain_signs_take_their_place():
    assert replace_odd_characters("\ufeff–“x”\u00a0y\u200b ") == '-"x" y'
