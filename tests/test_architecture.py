"""What may import what, and what every file keeps to, read from the source."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gandetect"

# The files and folders right below gandetect/, lowest first: each imports its own level and lower.
LEVELS = [
    {"archive", "data", "distributed", "losses", "networks", "simulation", "versions"},
    {"classifiers"},
    {"model"},
    {"training"},
    {"notebook", "saving", "summary"},
    {"base", "defence"},
    {"detectors"},
    {
        "attacks",
        "conformal",
        "dask",
        "datasets",
        "export",
        "loading",
        "metrics",
        "plotting",
        "reporting",
        "selection",
    },
    {"__main__", "cli", "demo"},
]
# What comes with extras, or is slow to import: only inside the function that needs it.
EXTRAS = {
    "IPython",
    "PIL",
    "dask",
    "distributed",
    "eagerpy",
    "foolbox",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "polars",
    "pyarrow",
    "pyod",
    "ray",
    "rich",
    "skimage",
    "tensorboard",
    "starlette",
    "torchvision",
    "uvicorn",
}

MODULES = sorted(PACKAGE.rglob("*.py"))
OTHERS = sorted(
    path
    for folder in ("benchmarks", "examples", "tests", "docs")
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.startswith(("_", "auto_")) for part in path.relative_to(ROOT).parts[:-1])
)
# It gives every public name, and so stands above what it takes them from; the others import from
# it no more than the version.
FRONT = PACKAGE / "__init__.py"


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def walk(node, when_imported):
    """The nodes below; with `when_imported`, those that run when the file is imported."""
    for child in ast.iter_child_nodes(node):
        if when_imported and (
            is_for_types(child)
            or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        ):
            continue
        yield child
        yield from walk(child, when_imported)


@cache
def imported(path, when_imported=False):
    """The full names that a file imports, in functions and for type checkers too."""
    names = []
    for node in walk(tree_of(path), when_imported):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def files_imported(path):
    """The files of gandetect that a file imports, but for the one that it is and the front."""
    for full_name in imported(path):
        parts = full_name.split(".")
        if parts[0] != "gandetect":
            continue
        below = PACKAGE.joinpath(*parts[1:])
        candidates = (
            below / "__init__.py",
            below.with_suffix(".py"),
            below.parent / "__init__.py",
            below.parent.with_suffix(".py"),
        )
        found = next(file for file in candidates if file.is_file())
        if found not in (path, FRONT):
            yield found


def part_of(path):
    """The file or folder right below gandetect/ that a file is, or is in."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def level_of(path):
    found = [level for level, parts in enumerate(LEVELS) if part_of(path) in parts]
    assert found, f"{name_of(path)} has no level: give it one in {name_of(Path(__file__))}"
    return found[0]


def in_a_circle(graph):
    """The nodes that are on a circle, or lead to one."""
    while free := {node for node, needs in graph.items() if not needs & graph.keys()}:
        graph = {node: needs for node, needs in graph.items() if node not in free}
    return sorted(graph)


def test_imports_go_down_only():
    wrong = [
        f"{name_of(path)} imports {name_of(other)}"
        for path in MODULES
        if path != FRONT
        for other in files_imported(path)
        if level_of(other) > level_of(path)
    ]
    assert not wrong


def test_no_files_import_each_other():
    """Neither in functions nor for type checkers."""
    graph = {path: set(files_imported(path)) for path in MODULES if path != FRONT}
    assert not [name_of(path) for path in in_a_circle(graph)]


def test_no_folders_import_each_other():
    graph = {}
    for path in MODULES:
        if path != FRONT:
            others = {part_of(other) for other in files_imported(path)} - {part_of(path)}
            graph.setdefault(part_of(path), set()).update(others)
    assert not in_a_circle(graph)


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set()}
    assert in_a_circle(graph) == ["a", "b", "c", "d"]


def test_detectors_do_not_know_each_other():
    detectors = set((PACKAGE / "detectors").glob("*.py"))
    assert not [
        f"{name_of(path)} imports {name_of(other)}"
        for path in detectors
        if path.stem != "__init__"
        for other in set(files_imported(path)) & detectors
    ]


def test_imports_are_absolute():
    assert not [
        name_of(path) for path in MODULES if any(name.startswith(".") for name in imported(path))
    ]


def test_extras_are_imported_where_they_are_needed():
    assert not [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in imported(path, when_imported=True)
        if name.split(".")[0] in EXTRAS
    ]


def test_every_file_has_tests():
    missing = [
        name_of(mirrored)
        for path in MODULES
        if path.stem not in ("__init__", "__main__")
        and not (
            mirrored := ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        ).is_file()
    ]
    assert not missing


def test_every_file_says_what_it_is():
    assert not [name_of(path) for path in MODULES if not ast.get_docstring(tree_of(path))]


def test_only_public_names_of_scikit_learn():
    assert not [
        f"{name_of(path)} imports {name}"
        for path in MODULES + OTHERS
        for name in imported(path)
        if name.startswith("sklearn.") and "._" in name
    ]


def test_the_package_never_needs_what_stands_around_it():
    around = {"benchmarks", "examples", "tests", "docs", *(path.stem for path in OTHERS)}
    assert not [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in imported(path)
        if name.split(".")[0] in around
    ]


def test_import_without_any_extra():
    script = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
import gandetect
from gandetect import detectors, datasets, loading, metrics
for name in gandetect.__all__:
    getattr(gandetect, name)
print(len(gandetect.__all__))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_every_public_name_is_there():
    import gandetect
    import gandetect.datasets
    import gandetect.detectors
    import gandetect.networks

    for module in (gandetect, gandetect.datasets, gandetect.detectors, gandetect.networks):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"
    assert set(gandetect.detectors.__all__) <= set(gandetect.__all__)
