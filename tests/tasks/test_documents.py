"""Files and folders as documents: every kind that is read, and one line for all that can't be."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from rlm_eval.errors import ConfigError
from rlm_eval.tasks import documents
from rlm_eval.tasks.documents import html_text, read_file, read_folder

PAGE = """<!DOCTYPE html><html><head><title>Minutes</title>
<style>p { color: red }</style><script>let hidden = "<p>no</p>";</script></head>
<body><!-- a comment --><p>Ada &amp; Ben <b>met</b>
in May.</p><ul><li>one<li>two</ul><table><tr><th>who</th><th>when</th></tr>
<tr><td>Cleo</td>
<td>June</td></tr></table><pre>a = 1
b = 2</pre>end<br>of page</body></html>"""


def pdf(*texts: str, password: str = "", filters: str = "") -> bytes:
    """A page per text."""
    writer = pypdf.PdfWriter()
    font = DictionaryObject({
        NameObject("/Type"): NameObject("/Font"),
        NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    })  # fmt: skip
    for text in texts:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        drawn = DecodedStreamObject()
        drawn.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        if filters:
            drawn[NameObject("/Filter")] = NameObject(filters)
        page[NameObject("/Contents")] = drawn
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_html_is_read_as_what_it_shows() -> None:
    assert html_text(PAGE).splitlines() == [
        "Minutes", "Ada & Ben met in May.", "one", "two", "who | when", "Cleo | June",
        "a = 1", "b = 2", "end", "of page",
    ]  # fmt: skip
    code = "<pre><code>a = 1\nb = 2</code></pre>after\nit<pre>\nc</pre>"
    assert html_text(code).splitlines() == ["a = 1", "b = 2", "after it", "c"]
    inline = "<p>Pay by <time>5 May</time>, inter<wbr>national <ruby>漢<rt>かん</rt></ruby>字"
    assert html_text(inline) == "Pay by 5 May, international 漢かん字"


def test_a_row_of_a_table_is_a_line_whatever_its_cells_hold() -> None:
    page = """<table><tr><td><p>Cleo</p></td><td><div>June,</div><ul><li>July</ul></td></tr>
<tr><td>Dan<td><p>May</table><p>one<p>two<table><td>of<table><tr><td>a<br>b</table><p>three"""
    assert html_text(page).splitlines() == [
        "Cleo | June, July", "Dan | May", "one", "two", "of", "a", "b", "three",
    ]  # fmt: skip


def test_a_title_that_a_newer_python_reads_raw_is_shown() -> None:
    reader = documents._Shown()
    for tag, shown in (("title", True), ("textarea", True), ("script", False), ("style", False)):
        reader.parts = []
        reader.set_cdata_mode(tag)
        reader.handle_data("Minutes")
        assert ("Minutes" in reader.parts) is shown


@pytest.mark.parametrize("page", ["", "plain", "<p", "<script>x", "</p></p>", "<p>&#xD800;&bogus;"])
def test_broken_html_is_read_as_well(page: str) -> None:
    html_text(page).encode()


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.txt", "Grüße\n".encode(), "Grüße\n"),
        ("a.md", b"\xef\xbb\xbf# Title", "# Title"),
        ("a.py", b"x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n"),
        ("no_suffix", b"text", "text"),
        ("a.HTM", b"<p>one<p>two", "one\ntwo"),
        ("a.pdf", pdf("Page one", "Page two"), "Page one\n\nPage two"),
    ],
)
def test_each_kind_is_read(tmp_path: Path, name: str, data: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_file(tmp_path / name) == text


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.bin", b"\x89PNG\0\0", "is neither text nor HTML nor PDF: convert it, or leave it out"),
        ("a.txt", "Où ?".encode("latin-1"), "is not in UTF-8 (invalid start byte): convert it, as"),
        ("a.txt", "Où ?".encode("utf-16"), "is not in UTF-8 (invalid start byte): convert it, as"),
        ("a.pdf", b"no pdf", "can't be read as PDF: "),
        ("a.pdf", b"", "can't be read as PDF: "),
        ("a.pdf", pdf("A")[:300], "can't be read as PDF: "),
        ("a.pdf", pdf("A", password="secret"), "can't be read as PDF: File has not been decrypted"),
        ("a.pdf", pdf("A", filters="/Fl"), "can't be read as PDF: "),
        ("a.pdf", pdf(""), "has no text, as scans haven't"),
        ("a.txt", None, "can't be read: No such file or directory"),
        ("a" * 300, None, "can't be read: File name too long"),
    ],
)
def test_what_cant_be_read_is_one_line(
    tmp_path: Path, name: str, data: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_file(tmp_path / name)
    assert f"{tmp_path / name} {message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not capsys.readouterr().err


def test_pdf_without_its_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    (tmp_path / "a.pdf").write_bytes(pdf("A"))
    with pytest.raises(ConfigError, match=r'PDF needs pip install -e "\.\[pdf\]"'):
        read_folder(tmp_path, tmp_path)


def test_a_folder_is_its_files_in_order_without_what_is_no_document(tmp_path: Path) -> None:
    for name in (
        *("b.txt", "a.md", "B.txt", "src/z.py", "src/deep/a.py", "a-b/c.txt", "questions.jsonl"),
        *(".git/config", ".env", "__pycache__/a.txt", "src/node_modules/left.js"),
        *("results/runs/own-1/journal.jsonl", "results/runs/own-1/summary.csv"),
        *("results/runs/own-2/journal.jsonl.gz", "results/runs/own-2/summary.csv"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    (tmp_path / "src/pic.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in.txt").symlink_to(tmp_path / "a.md")
    (tmp_path / "src/out.py").symlink_to(__file__)
    texts, left_out = read_folder(tmp_path, tmp_path / "questions.jsonl")
    assert list(texts) == [
        "B.txt", "a-b/c.txt", "a.md", "b.txt", "empty.txt", "in.txt", "src/deep/a.py", "src/z.py",
    ]  # fmt: skip
    assert texts["src/z.py"] == "text of src/z.py"
    assert left_out == ["src/out.py", "src/pic.png"]


def test_a_name_that_is_no_unicode_can_be_stored(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("text")
    except OSError:
        pytest.skip("file names are Unicode here")
    ((name, _),) = read_folder(tmp_path, tmp_path)[0].items()
    assert name.encode()


@pytest.mark.parametrize("names", [[], ["a.png"], [".hidden"], ["empty.txt"]])
def test_a_folder_without_documents_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"" if name == "empty.txt" else b"a\0")
    with pytest.raises(ConfigError, match="holds 0 characters of text; it must be 1 to"):
        read_folder(tmp_path, tmp_path)


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST", 10)
    (tmp_path / "a.txt").write_text("a" * 8)
    (tmp_path / "b.txt").write_text("b" * 8)
    with pytest.raises(ConfigError, match="holds 16 characters of text; it must be 1 to 10"):
        read_folder(tmp_path, tmp_path)
    (tmp_path / "b.txt").write_text("b" * 11)
    with pytest.raises(ConfigError, match=r"b\.txt is too large: the most is 10 bytes"):
        read_folder(tmp_path, tmp_path)


def test_a_folder_of_links_alone_says_why_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to(__file__)
    with pytest.raises(ConfigError, match=r"holds 0 characters.*; 1 links out of it are left out"):
        read_folder(tmp_path, leave_out=tmp_path)
