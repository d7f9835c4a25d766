"""What holds for the project as a whole: imports, version, and what the README says."""

import importlib.util
import pathlib
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

import benchmark
import metaperser_jax
from metaperser_jax.evaluation import titles
from metaperser_jax.settings import METHODS

REPOSITORY = pathlib.Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *(f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md"))),
    *(
        f"docs/results/{path.name}"
        for path in sorted((REPOSITORY / "docs" / "results").glob("*.md"))
    ),
]


def read(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def blocks(text, language):
    """Returns the fenced blocks of a language, continued lines joined."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block.replace("\\\n", " ") for block in found]


def commands(text):
    """Returns the words of each command in the text's shell blocks."""
    lines = "\n".join(blocks(text, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def first_column(text, heading):
    """Returns the names in the first column of the table below a heading."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def modules(package):
    walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [module.name for module in walked if not module.name.endswith("__main__")]


def test_importing_every_module_imports_neither_tensorflow_nor_torch():
    names = modules(metaperser_jax) + modules(benchmark)
    assert len(names) > 50
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
        "print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"metaperser_jax", "benchmark", "jax"} <= loaded
    assert not loaded & {"tensorflow", "torch", "torchaudio"}


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    (cited,) = re.findall(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE)
    assert metaperser_jax.__version__ == project["version"] == cited
    assert metaperser_jax.__version__ in read("CHANGELOG.md")


def test_the_lock_pins_every_dependency_and_no_pytorch():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["test"] + extras["lint"]
    pins = re.findall(r"^([\w.-]+)==[\w.+-]+(?:; .*)?$", read("requirements/lock.txt"),
                      re.MULTILINE)  # fmt: skip
    pinned = {normalised(name) for name in pins}
    assert {normalised(re.match(r"[\w.-]+", name)[0]) for name in wanted} <= pinned
    assert "torch" not in pinned


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_examples_of_the_readme_run():
    adaptation, encoders = (run_block(code) for code in blocks(README, "python"))
    assert encoders["output"].hidden_states.shape[:2] == (2, 1)
    assert encoders["output"].mask.sum(axis=1).tolist() == [98, 54]
    assert adaptation["logits"].shape == adaptation["labels"].shape


def run_block(code):
    names = {"__name__": "readme"}
    exec(code, names)
    return names


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_its_make_targets_exist(page):
    declared = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split()
    named = [words[1] for words in commands(read(page)) if words[0] == "make"]
    assert named
    assert set(named) <= set(declared)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_scripts_it_starts_exist(page):
    words = [word for command in commands(read(page)) for word in command]
    scripts = [word for word in words if re.search(r"\.py$|/run$", word)]
    assert scripts
    for script in scripts:
        assert (REPOSITORY / script.removeprefix("--config=")).is_file(), script


def runs():
    """Returns the flags of each `python run.py` and of those named in sentences."""
    inline = [shlex.split(c) for c in re.findall(r"`(python run\.py[^`]*)`", README)]
    found = [c for c in commands(README) + inline if c[:2] == ["python", "run.py"]]
    alone = re.findall(r"`(--[^`]*=[^`]*)`", README)
    return [" ".join(command[2:]) for command in found] + alone


@pytest.mark.parametrize("arguments", runs())
def test_the_flags_of_the_readme_exist(arguments):
    words = [a.removeprefix("--").partition("=") for a in arguments.split()]
    door = read("run.py")
    switches = [name for name, equals, _ in words if not equals]
    assert all(f'DEFINE_bool("{name}"' in door for name in switches), switches
    flags = {name: value for name, equals, value in words if equals}
    assert f'"{flags.pop("mode", "all")}"' in door
    config = load_config(flags.pop("config", "configs/synthetic.py"))
    for name in flags:
        section = config
        for key in name.removeprefix("config.").split("."):
            assert key in section, name
            section = section[key]


def load_config(path):
    path, _, choice = path.partition(":")
    sys.path.insert(0, str(REPOSITORY))
    try:
        spec = importlib.util.spec_from_file_location(
            "readme_config", REPOSITORY / path
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(REPOSITORY))
    return module.get_config(*filter(None, [choice]))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_linked_exists(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(page))
    for target in targets:
        if "://" not in target:
            assert (REPOSITORY / page).parent.joinpath(target).exists(), target


def test_the_methods_of_the_readme_are_those_of_the_settings():
    assert tuple(first_column(README, "Methods")) == METHODS


def test_the_metrics_of_the_readme_are_those_of_the_report():
    assert set(first_column(README, "Metrics")) == set(titles.METRICS)


def test_the_floors_are_drawn_as_they_are_enforced():
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]
    layers = [layer.split(" | ") for layer in contracts["contracts"][0]["layers"]]
    drawing = read("docs/architecture.md").split("metaperser_jax/\n")[1]
    lines = [line[:50] for line in drawing.split("\n\n")[0].splitlines()]
    drawn = [names for line in lines if (names := re.findall(r"\w+", line))]
    assert drawn == layers
