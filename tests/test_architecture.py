"""The layers of the house, read from its imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gandetect"

# Where a module stands: it may import what is as high as itself or lower.
FLOOR = {
    "archive",
    "attacks",
    "callbacks",
    "confidence",
    "classifiers",
    "data",
    "device",
    "distributed",
    "images",
    "inference",
    "losses",
    "metrics",
    "networks",
    "parameters",
    "parquet",
    "persistence",
    "reading",
    "run_folder",
    "scaling",
    "scoring",
    "selection",
    "shared",
    "simulation",
    "thresholds",
    "training",
    "training_report",
    "trimming",
}
LEVELS = [
    FLOOR,
    {"base", "defence"},
    {"detectors"},
    {"dask", "datasets", "loading", "plotting"},
    {"__init__", "__main__", "cli", "demo", "export"},
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


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def only_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def walk(node, top_level=False):
    """The nodes below, without what is for type checkers; at the top level without functions."""
    for child in ast.iter_child_nodes(node):
        if only_for_types(child):
            continue
        if top_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from walk(child, top_level)


def imported(path, top_level=False):
    """The full names that a file imports."""
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    """The modules and subpackages of gandetect, right below it, that a file imports."""
    for full_name in imported(path):
        parts = full_name.split(".")
        if parts[0] != "gandetect":
            continue
        is_room = len(parts) > 1 and any(PACKAGE.glob(f"{parts[1]}*"))
        yield parts[1] if is_room else "__init__"


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def level_of(room):
    for level, rooms in enumerate(LEVELS):
        if room in rooms:
            return level
    raise AssertionError(f"gandetect/{room} has no level: give it one in {name_of(Path(__file__))}")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
class TestModules:
    def test_imports_go_down_only(self, path):
        level = level_of(room_of(path))
        for room in rooms_imported(path):
            assert level_of(room) <= level, f"{name_of(path)} imports {room}, which is above it"

    def test_extras_are_imported_where_they_are_needed(self, path):
        roots = {full_name.split(".")[0] for full_name in imported(path, top_level=True)}
        assert not roots & EXTRAS

    def test_it_has_tests(self, path):
        if path.stem in ("__init__", "__main__"):
            return
        mirrored = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        assert mirrored.is_file(), f"{name_of(mirrored)} is missing"

    def test_it_says_what_it_is(self, path):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_detectors_do_not_know_each_other():
    for path in (PACKAGE / "detectors").glob("*.py"):
        if path.stem == "__init__":
            continue
        others = [n for n in imported(path) if n.split(".")[1:2] == ["detectors"]]
        assert not others, f"{name_of(path)} imports {others}"


def test_the_floor_has_no_cycles():
    graph = {
        room: {other for path in MODULES if room_of(path) == room for other in rooms_imported(path)}
        - {room}
        for room in FLOOR
    }
    while graph:
        free = {room for room, needs in graph.items() if not needs & graph.keys()}
        assert free, f"these import each other: {sorted(graph)}"
        graph = {room: needs for room, needs in graph.items() if room not in free}


@pytest.mark.parametrize("path", MODULES + OTHERS, ids=name_of)
class TestEveryFile:
    def test_only_public_names_of_scikit_learn(self, path):
        for full_name in imported(path):
            parts = full_name.split(".")
            private = [part for part in parts if part.startswith("_")]
            assert parts[0] != "sklearn" or not private, full_name

    def test_at_most_500_lines(self, path):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500

    def test_functions_have_at_most_60_lines(self, path):
        """Of code: a docstring is as long as it needs to be."""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node):
                    n_lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                assert n_lines <= 60, f"{node.name} has {n_lines} lines"


def test_the_package_never_needs_what_stands_around_it():
    around = {"benchmarks", "examples", "tests", "docs", *(path.stem for path in OTHERS)}
    for module in MODULES:
        assert not {full_name.split(".")[0] for full_name in imported(module)} & around


def test_import_without_any_extra():
    script = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
import gandetect
from gandetect import detectors, datasets, loading, metrics
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
