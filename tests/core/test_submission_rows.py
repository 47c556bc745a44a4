from pathlib import Path

import pytest

from whenabouts.core import submission_rows as rows_module
from whenabouts.core.errors import SubmissionError
from whenabouts.core.submission_rows import submission_rows

SHARED = Path(__file__).parents[2].parent / "shared"
PLAIN = [(1, [b"a:0", b"b:5"]), (2, [b"c:10"])]


def rows(path: Path, content: bytes) -> list[tuple[int, list[bytes]]]:
    path.write_bytes(content)
    return [(row.class_id, list(row.tokens)) for row in submission_rows(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "submission.csv"


@pytest.mark.parametrize(
    "content",
    [
        b"Class,Segments\n1,a:0 b:5\n2,c:10\n",
        b"Class,Segments\n1,a:0 b:5\n2,c:10",
        b"Class,Segments\r\n1,a:0 b:5\r\n2,c:10\r\n",
        b"Class,Segments\r\n1,a:0 b:5\r\n2,c:10\r",
        b"\xef\xbb\xbfClass,Segments\n1,a:0 b:5\n2,c:10\n",
        b'"Class","Segments"\n"1","a:0 b:5"\n"2","c:10"\n',
        b'Class,Segments\n1,"a:0 b:5"\r\n2,"c:10"',
        b"Class,Segments\n1,a:0  b:5\n2, c:10 \n",
        b"Class,Segments\n\n1,a:0 b:5\n\r\n\n2,c:10\n\n",
    ],
    ids=["plain", "no end", "crlf", "cr end", "bom", "quoted", "quoted crlf", "spaces", "empty"],
)
def test_what_is_read_as_the_same(path: Path, content: bytes) -> None:
    assert rows(path, content) == PLAIN


def test_empty_lists(path: Path) -> None:
    assert rows(path, b'Class,Segments\n3,\n7,""\n8,  ') == [(3, []), (7, []), (8, [])]
    assert rows(path, b"Class,Segments\n") == []
    assert rows(path, b"Class,Segments") == []


def test_ids_of_any_bytes(path: Path) -> None:
    tokens = [b":::5", b"a:b:0", b"\xff\xfe:15", b"\xc3\xa9'\t;:20", b"q" * 40 + b":295"]
    assert rows(path, b"Class,Segments\n0," + b" ".join(tokens) + b"\n") == [(0, tokens)]


def test_line_numbers(path: Path) -> None:
    path.write_bytes(b"Class,Segments\n\n5,a:0\n\n6,\n")
    assert [(r.line, r.class_id) for r in submission_rows(path)] == [(3, 5), (5, 6)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"3,a:0 a:5 a:0", "class 3: token 3 'a:0' repeats token 1; a segment stands in a list"),
        (b"3,a:0 b", "class 3: token 2 'b': it has no colon; a token is videoid:start"),
        (b"3,a:05", "class 3: token 1 'a:05': its start is not written plainly"),
        (b"3,a:0 :5 b", "class 3: token 2 ':5': it has no video id"),
        (b"3,a:x", "class 3: token 1 'a:x': its start is no whole number"),
        (b"3,%b:x" % (b"q" * 99), f"token 1 '{'q' * 60}...': its start is no"),
        (b"x,a:0", "'x' is no class id; a row is a class id up to 2147483647, a comma and"),
        (b"-1,a:0", "'-1' is no class id"),
        (b"1.0,a:0", "'1.0' is no class id"),
        (b"2147483648,a:0", "'2147483648' is no class id"),
        (b"00000000003,a:0", "'00000000003' is no class id"),
        (b" 3,a:0", "' 3' is no class id"),
        (b",a:0", "'' is no class id"),
        (b"3", "the row has 0 commas"),
        (b"3,a:0,b:5", "the row has 2 commas"),
        (b'3,"a:0,b:5"', "the row has 2 commas"),
        (b'3,"a:0', "the row has a stray quote"),
        (b'3,a":0', "the row has a stray quote"),
        (b'3,"', "the row has a stray quote"),
        (b"3,a:0\r\r", "its start is no whole number"),
    ],
)
def test_broken_rows(path: Path, line: bytes, message: str) -> None:
    with pytest.raises(SubmissionError) as raised:
        rows(path, b"Class,Segments\n1,z:0\n" + line + b"\n")
    assert str(raised.value).startswith(f"{path}, line 3")
    assert message in str(raised.value)


def test_the_message_for_a_repeated_segment_word_for_word(path: Path) -> None:
    with pytest.raises(SubmissionError) as raised:
        rows(path, b"Class,Segments\n3,a:0\n7,b:5 c:0 b:5\n")
    assert str(raised.value) == (
        f"{path}, line 3, class 7: token 3 'b:5' repeats token 1; a segment stands in a list once"
    )


def test_rows_before_a_broken_one_are_still_given(path: Path) -> None:
    path.write_bytes(b"Class,Segments\n1,a:0\n2,a\n")
    reader = submission_rows(path)
    assert next(reader).class_id == 1
    with pytest.raises(SubmissionError, match="line 3, class 2"):
        next(reader)


def test_a_class_twice(path: Path) -> None:
    with pytest.raises(
        SubmissionError, match="class 3 stands in line 2 and in line 4; a class has"
    ):
        rows(path, b"Class,Segments\n3,a:0\n4,\n03,b:0\n")


@pytest.mark.parametrize(
    "header", [b"", b"\n", b"3,a:0\n", b"class,segments\n", b"Class\n", b"Class,Segments,\n",
               b"Class;Segments\n", b" Class,Segments\n", b"Class,Segments" + b"x" * 100 + b"\n"]
)  # fmt: skip
def test_wrong_headers(path: Path, header: bytes) -> None:
    with pytest.raises(SubmissionError, match=r"line 1: the header is '.*'; it is Class,Segments"):
        rows(path, header + b"3,a:0\n" * bool(header))


def test_a_row_without_end_does_not_fill_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROW_BYTES", 10)
    assert rows(path, b"Class,Segments\n1,abcd:0\n2,abcde:0") == [
        (1, [b"abcd:0"]),
        (2, [b"abcde:0"]),
    ]
    with pytest.raises(SubmissionError, match="line 3: over 10 bytes"):
        rows(path, b"Class,Segments\n1,abcd:0\n2,abcdef:0\n")


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"submission\.csv: no such file"):
        list(submission_rows(path))


@pytest.mark.skipif(not SHARED.exists(), reason="the challenge's sample submission is not here")
def test_the_sample_submission_of_the_challenge() -> None:
    read = [
        (r.class_id, list(r.tokens))
        for r in submission_rows(SHARED / "data/meta/sample_submission.csv")
    ]
    assert len(read) == 1000
    assert read[0] == (3, [b"002G:35", b"002G:40", b"002G:60"])
    assert all(tokens == read[0][1] for _, tokens in read)
