"""The architecture: who may import whom, and what nobody may."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Inside sdg, from the bottom up; a module imports from lower layers, or from its own folder.
# A new module has to be given its place here.
LAYERS = (
    {"sdg.characters", "sdg.errors", "sdg.fingerprints"},
    {"sdg.patterns", "sdg.storage"},
    {
        "sdg.account",
        "sdg.schema",
        "sdg.languages",
        "sdg.shingles",
        "sdg.text",
        "sdg.yaml12",
        "sdg.phrases",
        "sdg.vectors",
    },
    {
        "sdg.canonical",
        "sdg.prompting",
        "sdg.planning",
        "sdg.hash_index",
        "sdg.langid",
        "sdg.lock",
        "sdg.near_vectors",
        "sdg.readers",
        "sdg.replies",
        "sdg.search",
        "sdg.sketches",
        "sdg.stage",
    },
    {"sdg.near_duplicates", "sdg.tasks"},
    {"sdg.corpora", "sdg.filters", "sdg.store", "sdg.engines", "sdg.models"},
    {"sdg.earlier_pairs", "sdg.evaluation_sets", "sdg.ideas", "sdg.kept", "sdg.teachers"},
    {"sdg.approximate", "sdg.passages"},
    {"sdg.miner"},
    {"sdg.stages"},
    {"sdg.cluster", "sdg.pipeline"},
    {"sdg.runner"},
    {"sdg.campaign"},
    {"sdg.export", "sdg.samples", "sdg.summary"},
    {"sdg.report"},
)
MAX_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in ("sdg", "embedtrain", "pipelines")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
EVERY_MODULE = pytest.mark.parametrize("module", FILES)


def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imports(module: str) -> Iterator[str]:
    """Dotted names that a module imports, late imports and type checking included."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES else node.module


def package(name: str) -> str:
    return name.partition(".")[0]


def layer(module: str) -> int:
    """Place of a module, or of the folder it is in, among the layers."""
    for level, names in enumerate(LAYERS):
        if module in names or module.rpartition(".")[0] in names:
            return level
    raise AssertionError(f"{module} has no layer: give it one in LAYERS")


def test_all_three_packages_are_looked_at() -> None:
    assert {"sdg.schema", "sdg.cluster", "sdg.stages.mine", "pipelines.generate"} <= set(FILES)
    assert "sdg.langid" in set(imports("sdg.filters.language"))
    assert "sdg.phrases" in set(imports("sdg.filters.talk"))  # from sdg import phrases
    assert "pipelines.view" in set(imports("pipelines.generate"))  # inside a function


@EVERY_MODULE
def test_packages_import_one_way(module: str) -> None:
    allowed = {
        "sdg": ("sdg",),
        "embedtrain": ("embedtrain", "sdg.schema", "sdg.errors"),
        "pipelines": ("pipelines", "sdg", "embedtrain"),
    }[package(module)]
    own = [name for name in imports(module) if package(name) in ("sdg", "embedtrain", "pipelines")]
    assert [
        n for n in own if n not in allowed and not n.startswith(tuple(f"{a}." for a in allowed))
    ] == []


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("sdg.")])
def test_layers_import_downwards(module: str) -> None:
    for name in imports(module):
        if name.startswith("sdg."):
            same_folder = module.count(".") == 2 or FILES[module].name == "__init__.py"
            beside = same_folder and name.rpartition(".")[0] in (module, module.rpartition(".")[0])
            assert layer(name) < layer(module) or beside, f"{module} imports {name}"


def test_no_module_imports_itself_by_a_detour() -> None:
    # A folder's __init__ imports its files; those it is imported from is seen by their own names.
    graph = {m: {n for n in imports(m) if n in FILES and n != m} for m in FILES}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("ray", "sdg.cluster pipelines.ray_train pipelines.submit"),
        ("vllm", "sdg.engines embedtrain.export"),
        ("openai", "sdg.engines"),
        ("sklearn", "sdg.teachers"),
        ("icu4py", "sdg.text"),
        ("rich", "pipelines"),
    ],
)
def test_a_library_has_one_home(library: str, allowed: str) -> None:
    users = {m for m in FILES if any(package(name) == library for name in imports(m))}
    assert users, f"nobody imports {library}: take it out of this test"
    homes = allowed.split()
    assert {m for m in users if not any(f"{m}.".startswith(f"{home}.") for home in homes)} == set()


def test_the_command_line_is_read_without_ray() -> None:
    """--help and wrong arguments should not cost the import of Ray, vLLM or PyTorch."""
    code = "import sys, pipelines.generate; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert (
        set(done.stdout.split()) & {"ray", "vllm", "torch", "datasets", "pandas", "openai"} == set()
    )


@EVERY_MODULE
def test_files_stay_short(module: str) -> None:
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def unsafe(node: ast.AST) -> str | None:
    """What nobody may do with data or models that others made."""
    if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
        return node.id
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
        found = [n for n in names if "pickle" in n or package(n) in ("dill", "joblib", "shelve")]
        return found[0] if found else None
    if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
        is_false = isinstance(node.value, ast.Constant) and node.value.value is False
        return None if is_false else node.arg
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        settings = {k.value: v for k, v in pairs if isinstance(k, ast.Constant)}
        value = settings.get("trust_remote_code")
        return "trust_remote_code" if isinstance(value, ast.Constant) and value.value else None
    if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        return "trust_remote_code" if "trust_remote_code" in names and node.value.value else None
    return None


@EVERY_MODULE
def test_nothing_runs_what_it_is_given(module: str) -> None:
    assert [unsafe(node) for node in ast.walk(tree(module)) if unsafe(node)] == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)",
        "exec('x')",
        "import pickle",
        "from ray import cloudpickle",
        "f(trust_remote_code=True)",
        "f(**{'trust_remote_code': True})",
        "class A:\n    trust_remote_code: bool = True",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_check_above_sees_what_it_should(code: str) -> None:
    assert any(unsafe(node) for node in ast.walk(ast.parse(code)))


def test_it_lets_the_safe_setting_pass() -> None:
    code = (
        "f(allow_pickle=False)\nclass A:\n    trust_remote_code: bool = False\nast.literal_eval(x)"
    )
    assert not any(unsafe(node) for node in ast.walk(ast.parse(code)))
