from html.parser import HTMLParser

from whenabouts.report.markup import Markup, clean, escape, join, shorten, tag


def test_text_is_escaped_and_markup_is_not():
    assert escape("<b>") == "&lt;b&gt;"
    assert escape(Markup("<b>")) == "<b>"
    assert tag("p", "a < b & c", tag("b", "d")) == "<p>a &lt; b &amp; c<b>d</b></p>"
    assert join("<", Markup("<"), between="|") == "&lt;|<"


def test_attributes_cannot_be_left():
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, name, attributes):
            seen.append((name, attributes))

    hostile = "\"><script>'&amp;"
    Reader().feed(tag("a", "x", class_="c", aria_label=hostile, href=None, tabindex=0))
    assert seen == [("a", [("class", "c"), ("aria-label", hostile), ("tabindex", "0")])]


def test_attributes_are_escaped_even_if_they_are_markup():
    assert tag("i", title=Markup('"')) == '<i title="&quot;"></i>'


def test_void_elements_are_not_closed():
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_unfit_characters_are_replaced():
    assert clean("a\x00b\ud800c\u202ed\uffff") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert clean("tab\tline\né 日") == "tab\tline\né 日"


def test_shorten_cuts_to_the_width():
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert shorten("abcd efg", 6) == "abcd…"
    assert shorten(" two\n words ", 20) == "two words"
