"""Reads a page as a browser would, for the tests that ask what it shows."""

from html.parser import HTMLParser

VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """Reads a page, checks that every tag is closed, and keeps what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.ids, self.rows = [], [], [], []
        self.text = {}
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]
        if name not in VOID:
            self.stack.append(name)
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        self.ids += [value for key, value in attributes if key == "id"]

    def handle_endtag(self, name):
        assert self.stack.pop() == name

    def handle_data(self, text):
        if {"td", "th"} & set(self.stack):
            self.rows[-1][-1] += text
        if self.stack:
            self.text.setdefault(self.stack[-1], []).append(text)

    def names(self):
        return [name for name, _ in self.tags]


def class_rows(page):
    """The rows of the class table: topic, class, AP, (bar), random order, positives, and, of
    segments, rated."""
    return [row for row in page.rows if len(row) in (6, 7) and row[2] not in ("AP", "Time")
            and row[3] == ""]  # fmt: skip
