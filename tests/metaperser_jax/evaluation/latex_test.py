r"""LaTeX that compiles with booktabs alone, whatever the names are.

No engine is needed: a small reader checks braces, environments, commands, special
characters and the number of cells of each line.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax.evaluation import latex, listener_tables, paper, sheet
from metaperser_jax.evaluation.sheet import Block, Cell, Column, Row, Section, Table

COMMANDS = {
    *("begin", "end", "centering", "footnotesize", "setlength", "tabcolsep"),
    *("caption", "label", "ref", "toprule", "midrule", "bottomrule", "cmidrule"),
    "clearpage",
    *("multicolumn", "textit", "textbf", "texttt", "scriptsize", "usepackage"),
    *("textbackslash", "textasciitilde", "textasciicircum", "textless"),
    *("textgreater", "textbar", "pm", "uparrow", "downarrow", "times", "ldots"),
    *("ss", "ae", "AE", "o", "O", "l", "L", "r", "u", "c", "v", "H"),
}
HALF = Cell("0.5")
EVIL = "\\input{/etc/passwd} & % $ # _ { } ~ ^ \\ [x] * <b> \"'`"


def check(source):
    """Reads LaTeX of ours; fails where an engine would."""
    assert source.isascii()
    body = re.sub(r"(?<!\\)%.*", "", source)
    for command in re.findall(r"\\([a-zA-Z]+)", body):
        assert command in COMMANDS, command
    bare = re.sub(r"\\[^a-zA-Z]", "", body)  # escaped characters and line ends
    depth = 0
    for char in bare:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert "#" not in bare
    assert not re.search(r"[_^]", re.sub(r"\$[^$]*\$|\\(?:ref|label){[^}]*}", "", bare))
    environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", body):
        if kind == "begin":
            environments.append(name)
        else:
            assert environments.pop() == name
    assert not environments
    for letters, rows in re.findall(
        r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", body, re.S
    ):
        check_rows(rows, len(letters))


def check_rows(rows, width):
    for line in rows.strip().splitlines():
        if line.startswith(("\\toprule", "\\midrule", "\\bottomrule", "\\cmidrule")):
            continue
        assert line.endswith(r" \\")
        assert not re.match(r"\s*[\[*]", line)  # would be read as an option of \\
        text = re.sub(r"\\&", "", line[:-2])
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", text)]
        assert text.count("&") + 1 + sum(n - 1 for n in spans) == width


def table(label="full", head="E1", cell=HALF, **changes):
    block = Block(
        "b", "Method", [Column("", head)], [Section("s", [Row(label, [cell])])]
    )
    made = Table("main", "Main results", "A caption.", [block], [], [])
    return made._replace(**changes)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a & b", r"a \& b"),
        ("95 %", r"95 \%"),
        ("$5 #1 a_b", r"\$5 \#1 a\_b"),
        ("{x}", r"\{x\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("\\end", r"\textbackslash{}end"),
        ("[0]*", "{[}0{]}{*}"),
        ("José Ø ß", r"Jos\'{e} \O{} \ss{}"),
        ("聴", r"\texttt{U+8074}"),
        ("a\nb\x1b", "a?b?"),
        ("±\N{EN DASH}↑", r"$\pm$--$\uparrow$"),
    ],
)
def test_escape(text, written):
    assert latex.escape(text) == written


@given(st.text())
def test_any_text_is_safe_as_label_head_caption_and_sentence(text):
    made = table(text, text, title=text, caption=text, sentences=[text])
    check(latex.as_latex(made))


def test_escape_tells_names_apart_that_look_alike():
    assert latex.escape("聴") != latex.escape("取")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("-0.045", "$-$0.045"),
        ("[-0.060, +0.030]", "{[}$-$0.060, $+$0.030{]}"),
        ("0.5", "0.5"),
        ("\N{EN DASH}", "--"),
    ],
)
def test_signs_of_numbers_are_those_of_mathematics(text, written):
    assert latex.number(text) == written


def test_cells_show_best_deviation_interval_and_mark():
    cell = Cell("0.512", "0.031", "[0.482, 0.542]", "", "+", True)
    source = latex.as_latex(table(cell=cell))
    assert r"\textbf{0.512} {\scriptsize $\pm$ 0.031}$^{+}$" in source
    assert r"{\scriptsize {[}0.482, 0.542{]}}" in source
    check(source)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        (Cell("\N{EN DASH}"), "& -- "),
        (sheet.MISSING, r"& \textit{missing} "),
        (Cell("0.5", mark="-"), "& 0.5$^{-}$ "),
        (Cell("0.5", mark="?"), "& 0.5$^{?}$ "),
        (Cell("0.5", p_value="<0.001"), r"{\scriptsize $p<0.001$}"),
        (Cell("0.5", p_value="0.012"), r"{\scriptsize $p=0.012$}"),
    ],
)
def test_other_cells(cell, written):
    source = latex.as_latex(table(cell=cell))
    assert written in source
    check(source)


def test_wide_blocks_become_several_floats_with_labels_of_their_own():
    cells = [Cell(str(i), "1", "[0, 1]") for i in range(8)]
    heads = [Column("Seen" if i < 4 else "Unseen", str(i)) for i in range(8)]
    block = Block("b", "Method", heads, [Section("s", [Row("full", cells)])])
    source = latex.as_latex(table()._replace(blocks=[block]))
    check(source)
    assert source.count(r"\begin{tabular}{lrrrr}") == 2
    assert re.findall(r"\\label\{(.*?)\}", source) == ["tab:main-1", "tab:main-2"]
    assert source.count("A caption.") == 1
    assert r"As Table~\ref{tab:main-1}." in source


def test_all_tables_of_a_sweep_with_evil_names(sweep):
    records, comparisons, values = sweep(
        encoders=(EVIL,), groups=(EVIL,), methods=("full", "no_adaptation", EVIL)
    )
    values += [row | {"annotator": EVIL} for row in values if row["annotator"] == "E1"]
    spec = paper.PaperSpec(16)
    data = paper.index_data(records, comparisons, spec)
    made = [
        paper.main_table(data),
        paper.ablation_table(data),
        paper.k_curve_table(data),
        paper.encoder_table(data),
        listener_tables.listener_table(values, spec),
    ]
    for one in made:
        source = latex.as_latex(one)
        check(source)
        assert r"\begin{tabular}" in source
    assert latex.escape(sheet.shorten(EVIL, latex.MAX_HEAD)) in source


def test_a_table_without_blocks_is_a_comment():
    source = latex.as_latex(table()._replace(blocks=[]))
    assert "% No results." in source
    check(source)


def test_floats_are_flushed_before_latex_runs_out_of_room():
    source = latex.as_latex(table()._replace(blocks=table().blocks * 40))
    check(source)
    between = [part.count(r"\begin{table*}") for part in source.split(r"\clearpage")]
    assert between == [16, 16, 8]


def test_sentences_are_comments_at_the_end():
    source = latex.as_latex(table(sentences=["DA makes 5 % more."]))
    assert source.endswith("% DA makes 5 \\% more.\n")
