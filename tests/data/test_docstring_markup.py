from gptexp.data.corpora.docstring_markup import plain_text

DOCSTRING = """\
It calls :func:`~shelf.find` of the `Shelf Project <https://shelf.test/a>`_ [1]_, **not** ``walk`` (``*args``),
and `quotes' the shelf's titles: `~a.b` is [`Other`], see [the manual](https://shelf.test/b).

.. note:: Books are heavy.

.. versionadded:: 2.0
   The parameter `case`.

Parameters
----------
title : str
    One of::

        title = "a"

    The title.

References
----------
.. [1] A book.

Examples
--------
>>> find("a")
3

It found three.

```python
find("b")
```

See also:
    walk: another

Returns:
    int: The place.
"""


def test_markup_code_and_references_are_no_prose():
    assert plain_text(DOCSTRING).splitlines() == [
        "It calls shelf.find of the Shelf Project, not walk (*args), and quotes the shelf's titles: "
        "a.b is Other, see the manual.",
        "Books are heavy.",
        "Parameters",
        "title : str One of:",
        "The title.",
        "It found three.",
        "Returns: int: The place.",
    ]


def test_an_apostrophe_ends_no_name_in_backticks():
    assert plain_text("`a` is the run's place, 2 * 3 * 4") == "a is the run's place, 2 * 3 * 4"
