"""The two distributions: the runtime imports nothing of the other one, nor what only that needs, but through doors."""

import tomllib
from collections.abc import Iterator

import grimp
from runtime_alone import PACKAGES, PROJECT, absent

import segzoo

RUNTIME = PROJECT.parent / "runtime" / "pyproject.toml"

DOORS = {
    # Public names, loaded on first use.
    "segzoo": "segzoo.exporting segzoo.models segzoo.training",
    "segzoo.inference": "segzoo.inference.backends.torch",
    # A model in memory is one that torch runs.
    "segzoo.inference.backends": "segzoo.inference.backends.torch",
    # What plugins register are classes of the whole.
    "segzoo.plugins": "segzoo.data.dataset segzoo.data.datasets.base timm",
    # Commands.
    "segzoo.cli.demo": "segzoo.cli.demo_export",
    "segzoo.cli.info": "segzoo.models timm torch",
    "segzoo.cli.listing": "segzoo.models",
    # Extras.
    "segzoo.data.video": "av",
    "segzoo.postprocess.crf.lattice": "scipy",
    "segzoo.weights.hub": "huggingface_hub",
}
"""What modules of the runtime may import that is not of the runtime. They do it when it is used, and only then."""


def within(module: str, packages: "tuple[str, ...] | list[str]") -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def imports() -> Iterator[tuple[str, str]]:
    """Every import of a module of the runtime, whose target the runtime lacks."""
    graph = grimp.build_graph("segzoo", include_external_packages=True)
    lacks = (*absent(), "lightning_fabric", "matplotlib", "tensorboard", "onnxscript")
    for module in sorted(graph.modules):
        if within(module, ("segzoo",)) and not within(module, absent()):
            targets = graph.find_modules_directly_imported_by(module)
            yield from ((module, target) for target in sorted(targets) if within(target, lacks))


def test_the_runtime_imports_the_rest_through_doors_only() -> None:
    found = list(imports())
    assert [pair for pair in found if not within(pair[1], DOORS.get(pair[0], "").split())] == []
    used = {(module, door) for module, target in found for door in DOORS[module].split() if within(target, [door])}
    assert used == {(module, door) for module, doors in DOORS.items() for door in doors.split()}


def test_every_listed_file_exists() -> None:
    listed = tomllib.loads(PROJECT.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    assert [pattern for pattern in listed if not list(PROJECT.parent.glob(pattern.strip("/")))] == []


def test_both_have_one_version() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    runtime = tomllib.loads(RUNTIME.read_text())["project"]
    pins = [*project["dependencies"], *project["optional-dependencies"]["video"]]
    pinned = [pin for pin in pins if pin.startswith(runtime["name"])]
    assert len(pinned) == 2 and all(pin.endswith(f"]=={segzoo.__version__}") for pin in pinned)
    same = ("requires-python", "authors")
    assert [project[name] for name in same] == [runtime[name] for name in same]
    pythons = [[line for line in p["classifiers"] if "Python :: 3." in line] for p in (project, runtime)]
    assert pythons[0] == pythons[1]


def test_both_have_the_license() -> None:
    assert (RUNTIME.parent / "LICENSE").read_text() == (PROJECT.parent / "LICENSE").read_text()


def test_the_packages_that_are_hidden_are_no_dependencies_of_the_runtime() -> None:
    names = {line.split(">")[0].split("[")[0] for line in tomllib.loads(RUNTIME.read_text())["project"]["dependencies"]}
    assert not names & set(PACKAGES)
