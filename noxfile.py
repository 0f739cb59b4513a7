"""The project's tasks: `nox -l` lists them, `nox -s NAME` runs one, and arguments after `--` are passed on.

`python -m pip install "nox[uv]"` is the whole set-up. Each session creates its own environment with uv and keeps it.
The package is installed from a wheel built from this tree, so what is tested is what is shipped.
"""

import re
import shutil
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
RUNTIME = nox.project.load_toml("runtime/pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
# Both distributions, as they are now, with the extra for training, which all sessions but the wheels' own checks use.
PACKAGES = ("./runtime", ".[train]")
REINSTALL = [word for project in (RUNTIME, PROJECT) for word in ("--reinstall-package", project["project"]["name"])]

PYTEST = ("pytest", "-n", "2", "--dist", "worksteal")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# Without its cache, each of pytest's processes spends five seconds on rewriting the assertions.
PYTEST_ENV = ONE_THREAD | {"PYTHONDONTWRITEBYTECODE": ""}
TWO_THREADS = {"OMP_NUM_THREADS": "2"}
TRAINING = TWO_THREADS | {"OMP_WAIT_POLICY": "PASSIVE"}
COMPILE = {"UV_COMPILE_BYTECODE": "1"}  # as pip does; without, every process may compile torch anew
DOCS = {"NO_MKDOCS_2_WARNING": "1"}  # the theme advertises its successor at every start


def install(session: nox.Session, *groups: str, package: bool = True, options: tuple[str, ...] = ()) -> None:
    """Installs dependency groups of pyproject.toml, and the two packages as they are now.

    uv's output is shown, because on a first run torch is a download of several gigabytes.
    """
    args = [word for group in groups for word in ("--group", group)]
    if package:
        args += [*REINSTALL, *PACKAGES]
    session.install(*args, *options, silent=False, env=COMPILE)


def run_tests(session: nox.Session, *options: str) -> None:
    """Installs the package and runs pytest on it, in two processes of one thread each."""
    install(session, "test", options=options)
    session.run(*PYTEST, *session.posargs, env=PYTEST_ENV)


@nox.session
def quick(session: nox.Session) -> None:
    """The two-minute loop: lint, the pages, and every test that needs no export, no process and no large encoder."""
    install(session, "test", "lint", "docs")
    run_lint(session)
    session.run(*PYTEST, "--quick", *session.posargs, env=PYTEST_ENV)
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp(), env=DOCS)  # with --quiet, not strict


@nox.session
def lint(session: nox.Session) -> None:
    """Checks format, lint rules, retired words and import contracts. Changes nothing; `format` does."""
    install(session, "lint", package=False)
    run_lint(session)


def run_lint(session: nox.Session) -> None:
    """All static checks but the types."""
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("python", "tools/retired_words.py")
    session.run("lint-imports", env={"PYTHONPATH": "src"})


@nox.session
def format(session: nox.Session) -> None:
    """Formats the code and applies ruff's automatic fixes."""
    install(session, "lint", package=False)
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")


@nox.session
def types(session: nox.Session) -> None:
    """Type-checks src with mypy in strict mode."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but `matrix`, on the Python that runs nox: `nox -s tests -- tests/test_docs.py -k index`."""
    run_tests(session)


@nox.session
def matrix(session: nox.Session) -> None:
    """Exports and verifies every decoder on an encoder of each kind, and every paper's network at full width."""
    install(session, "test")
    session.run(*PYTEST, "-m", "matrix", "--durations", "5", *session.posargs, env=PYTEST_ENV)


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The tests on every supported Python that is installed."""
    run_tests(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests with each dependency at exactly its lower bound, on the oldest Python."""
    bounds = Path(session.create_tmp(), "lowest.txt").resolve()
    projects = (PROJECT["project"], RUNTIME["project"])
    lines = [line for project in projects for line in project["dependencies"]]
    lines += [line for project in projects for extra in project["optional-dependencies"].values() for line in extra]
    requirements = {re.sub(r"\[.*?\]", "", line) for line in lines if not line.startswith(RUNTIME["project"]["name"])}
    bounds.write_text("\n".join(line.replace(">=", "==", 1) for line in sorted(requirements)) + "\n")
    run_tests(session, "--constraint", str(bounds))


@nox.session
def newest(session: nox.Session) -> None:
    """The tests with the newest version of every dependency, whatever an earlier run installed."""
    run_tests(session, "--upgrade")


@nox.session
def demo(session: nox.Session) -> None:
    """Builds a model, exports it, segments a photograph and shows it: `nox -s demo -- street.jpg`."""
    install(session)
    session.run("segzoo", "demo", "--export", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Builds sdist and wheel into dist/, checks them, and uses the wheel in an empty environment."""
    install(session, "build", package=False)
    dist = Path("dist")
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    session.run("twine", "check", "--strict", *map(str, sorted(dist.iterdir())))
    (wheel,) = dist.glob("*.whl")
    check_contents(session, wheel)

    away = Path(session.create_tmp()).resolve()
    environment = away / "empty"
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(scripts / "python")
    session.run("uv", "venv", "--clear", "--python", sys.executable, str(environment))
    session.run("uv", "pip", "install", "--python", python, str(wheel.resolve()))
    with session.chdir(away):
        session.run(python, "-c", "import segzoo; print(segzoo.__version__, segzoo.__file__)", external=True)
        session.run(str(scripts / "segzoo"), "list", external=True)


def check_contents(session: nox.Session, wheel: Path) -> None:
    """Fails the session unless the wheel holds exactly the files of the package."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to("src").as_posix())
        for path in Path("src/segzoo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if "segzoo/py.typed" not in packed or packed != wanted:
        session.error(f"{wheel} differs from src/segzoo: {sorted(packed ^ wanted) or 'py.typed is missing'}")
    session.log(f"{wheel.name}: {len(packed)} files, py.typed among them, exactly those of src/segzoo")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the pages into site/ and fails on any warning; `nox -s docs -- serve` shows them while you write."""
    install(session, "docs")
    session.run("mkdocs", *(session.posargs or ("build", "--strict")), env=DOCS)


@nox.session
def release(session: nox.Session) -> None:
    """Adds a finished run to the catalog: `nox -s release -- runs/default --data ../shared/camvid`."""
    install(session, "release")
    session.run("python", "tools/release.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compares segzoo with its alternatives, training included: `nox -s bench -- --quick`."""
    install(session, "bench")
    session.run("python", "benchmarks/compare.py", *session.posargs, env=TWO_THREADS)
    smoke = ["--quick"] if "--quick" in session.posargs else []  # the other options belong to compare.py
    session.run("python", "benchmarks/train.py", *smoke, env=TRAINING)


@nox.session(name="bench-train")
def bench_train(session: nox.Session) -> None:
    """Training steps compared with a peer's, and the time spent waiting for images: `-- --precision bf16`."""
    install(session, "bench")
    session.run("python", "benchmarks/train.py", *session.posargs, env=TRAINING)


@nox.session(name="bench-deploy")
def bench_deploy(session: nox.Session) -> None:
    """From pixels to mask, compared with a peer's export and with torch: `nox -s bench-deploy -- --batches 1`."""
    install(session, "bench")
    session.run("python", "benchmarks/deploy.py", *session.posargs, env=TWO_THREADS)


@nox.session(name="bench-loading")
def bench_loading(session: nox.Session) -> None:
    """Loading weights from files, compared with a peer and with the bare minimum."""
    install(session, "bench")
    session.run("python", "benchmarks/loading.py", *session.posargs, env=TWO_THREADS)


@nox.session(name="bench-crf")
def bench_crf(session: nox.Session) -> None:
    """The dense CRF on a photograph, by stage: `nox -s bench-crf -- --preset deeplab`."""
    install(session, "bench")
    session.run("python", "benchmarks/crf.py", *session.posargs, env=TWO_THREADS)
