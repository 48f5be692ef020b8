"""Tables as text and as HTML."""

from goodnet.core.tables import PlainTable, Shown, show_value

TABLE = PlainTable("rates", ("network", "accuracy"), (("a", "0.5"), ("<b>longer</b>", "")), ("a & b",))


class Result(Shown):
    def table(self) -> PlainTable:
        return TABLE


def test_columns_stand_in_line() -> None:
    assert str(Result()).splitlines() == [
        "rates",
        "network        accuracy",
        "a              0.5",
        "<b>longer</b>",
        "a & b",
    ]


def test_a_notebook_shows_it_and_nothing_in_it_is_markup() -> None:
    assert Result()._repr_html_() == (
        "<table><caption>rates</caption><thead><tr><th>network</th><th>accuracy</th></tr></thead><tbody>"
        "<tr><td>a</td><td>0.5</td></tr><tr><td>&lt;b&gt;longer&lt;/b&gt;</td><td></td></tr></tbody></table>"
        "<p>a &amp; b</p>"
    )


def test_a_table_without_a_head_or_without_rows() -> None:
    bare = PlainTable("run", (), (("verb", "scan"), ("seed", "0")))
    assert bare.text().splitlines() == ["run", "verb  scan", "seed  0"]
    assert "<thead>" not in bare.html()
    assert PlainTable("nothing", (), ()).text() == "nothing"


def test_values() -> None:
    assert [show_value(value) for value in (True, False, 0.12345, 7, [1, 2])] == ["yes", "no", "0.123", "7", "[1, 2]"]
