"""What is written about the package is true: code runs, links lead somewhere, names are there."""

import ast
import configparser
import contextlib
import inspect
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import gandetect
from gandetect import detectors
from tests.helpers import marks_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Columns of code that the site shows beside its two sidebars.
CODE_WIDTH = 75
GENERATED = ("_build", "auto_examples", "generated")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if not set(GENERATED) & set(page.parts)),
]

# A block of Python and, if a block of text follows at once, what it prints.
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
_DOCUMENTED = re.compile(r"^([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*) : (.+)$", re.MULTILINE)
_ABSOLUTE_PATH = re.compile(r"(?<![\w.~*:/])/(?:home|Users|root|tmp|work|mnt|opt)/\w")
# The rule under a table's header, or a further item of a list, after other text of the same line.
_JOINED = re.compile(r"\S.*\|-{3,}\|\S*\s*\|\s|[.;:] [-*] [A-Z`*\[]")
_PAPER = re.compile(r"arXiv:\d+\.\d+")
_LEADING_NAME = re.compile(r"[\w.-]+")


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks_of(page):
    """The line, the code and the expected output (or None) of each block of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        yield text.count("\n", 0, match.start(1)), *match.groups()


def is_used_by_calling(thing):
    """Whether it is neither raised nor only subclassed."""
    is_exception = isinstance(thing, type) and issubclass(thing, Exception)
    return callable(thing) and not is_exception and thing is not gandetect.BaseDetector


# Asked for by name: the package imports what it exports only then.
PUBLIC = [
    thing
    for thing in (getattr(gandetect, name) for name in gandetect.__all__)
    if is_used_by_calling(thing)
]
PUBLIC_CLASSES = [thing for thing in PUBLIC if isinstance(thing, type)]


def documented_parameters(cls):
    """The text after the colon by parameter, from the section "Parameters" of a docstring."""
    section = inspect.getdoc(cls).partition("Parameters\n----------\n")[2]
    section = re.split(r"\n\n\w[\w ]*\n-{3,}\n", section)[0]
    return {
        name: text for names, text in _DOCUMENTED.findall(section) for name in names.split(", ")
    }


def with_code():
    """The pages that have code; some of it needs callbacks of scikit-learn, or exporting."""
    for page in PAGES:
        code = "".join(code for _, code, _ in blocks_of(page))
        if code:
            yield pytest.param(page, marks=marks_of(code), id=name_of(page))


@pytest.mark.parametrize("page", list(with_code()))
def test_code_blocks_run_and_print_what_stands_below_them(page):
    namespace = {"__name__": "__main__"}
    for line, code, expected in blocks_of(page):
        # Empty lines before it, so that a traceback names the page's line.
        program = compile("\n" * line + code, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(program, namespace)
        if expected is not None:
            assert output.getvalue() == expected, f"{name_of(page)}, line {line + 1}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_narrow_enough_to_be_read_without_scrolling(page):
    wide, fence = [], None
    for line in page.read_text(encoding="utf-8").split("\n"):
        if line.startswith("```"):
            # No image, table or diagram, but code, or what stands as it is.
            fence = line.removeprefix("```") or "text" if fence is None else None
        elif fence and re.match(r"\w|\{code-block", fence) and len(line) > CODE_WIDTH:
            wide.append(line)
    assert wide == []


def prose_of(page):
    """The lines of a page outside blocks of code."""
    fenced = False
    for line in page.read_text(encoding="utf-8").split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_rows_of_tables_and_items_of_lists_begin_a_line_of_their_own(page):
    joined = [line for line in prose_of(page) if _JOINED.search(line)]

    assert joined == []


def test_pages_that_a_newcomer_reads_have_code():
    with_code = {name_of(page) for page in PAGES if any(blocks_of(page))}

    assert {"README.md", "docs/getting_started.md", "docs/guide/ganomaly.md"} <= with_code


def source_of(target):
    """The page itself, or the script that a page of the gallery is made from."""
    if target.parent.name == "auto_examples":
        return ROOT / "examples" / f"{target.stem}.py"
    return target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page):
    targets = _LINK.findall(page.read_text(encoding="utf-8"))

    assert [target for target in targets if not source_of(page.parent / target).exists()] == []


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_public_names_have_an_example(thing):
    assert "\n>>> " in inspect.getdoc(thing)


@pytest.mark.parametrize("cls", PUBLIC_CLASSES, ids=lambda cls: cls.__name__)
def test_every_parameter_is_documented_with_its_default(cls):
    documented = documented_parameters(cls)
    parameters = inspect.signature(cls).parameters

    assert sorted(documented) == sorted(parameters)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty:
            assert "default" not in documented[name], name
        else:
            stated = documented[name].rpartition("default=")[2]
            assert ast.literal_eval(stated) == parameter.default, name


@pytest.mark.parametrize("name", detectors.__all__)
def test_every_detector_stands_in_the_readme_and_has_a_guide_page(name):
    guides = [page.read_text(encoding="utf-8") for page in (DOCS / "guide").glob("*.md")]

    assert f"| `{name}` |" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert any(f"`gandetect.{name}`, after" in guide for guide in guides)


def test_the_citation_has_the_papers_of_the_methods():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    heads = [
        page.read_text(encoding="utf-8").partition("\n## ")[0]
        for page in (DOCS / "guide").glob("*.md")
    ]
    named = {paper for head in heads for paper in _PAPER.findall(head)}

    assert len(named) >= 4
    assert {paper for paper in named if paper not in citation} == set()


def required_packages():
    """All that setup.cfg asks for, extras included."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return {
        _LEADING_NAME.match(line)[0]
        for line in "\n".join(lists).split("\n")
        if line and not line.startswith("gandetect[")
    }


def test_every_dependency_stands_among_the_licences():
    text = (DOCS / "licences.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0] for line in text.split("\n") if line.startswith("| ")][1:]
    named = [name for row in rows for name in row.removeprefix("| ").split(", ")]

    assert sorted(named) == sorted(name.replace("_", "-") for name in required_packages())


def test_every_dependency_is_pinned_in_the_constraints():
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    pinned = {line.partition("==")[0] for line in constraints if "==" in line}

    assert required_packages() == pinned


def test_no_file_names_a_place_on_the_machine_where_it_was_written():
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("only a checkout knows its files")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    assert ROOT / "README.md" in files

    texts = {name_of(file): file.read_text(encoding="utf-8", errors="ignore") for file in files}
    assert [name for name, text in texts.items() if _ABSOLUTE_PATH.search(text)] == []
