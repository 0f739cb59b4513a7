"""Every task of the project: `nox -l` lists them, `nox -s NAME` runs one; what follows `--` is handed on.

`python -m pip install "nox[uv]"` is all the set-up there is: each session makes its own environment with uv, keeps it
for the next time, and takes the package from a wheel built of this tree, so that what is tested is what is shipped.
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

PACKAGE = "segmentation-zoo"
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)


def install(session: nox.Session, *groups: str, package: bool = True, options: tuple[str, ...] = ()) -> None:
    """Installs dependency groups of pyproject.toml, and the package as it stands now.

    Not silent: on a first run torch is a download of gigabytes, and uv shows how far it is.
    """
    args = [word for group in groups for word in ("--group", group)]
    if package:
        # With what training needs: all but the wheel's own check runs it.
        args += ["--reinstall-package", PACKAGE, ".[train]"]
    session.install(*args, *options, silent=False)


def run_tests(session: nox.Session, *options: str) -> None:
    """Installs the package and runs pytest on it, in two processes of one thread each."""
    install(session, "test", options=options)
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint and the import contracts; changes nothing (see `format`)."""
    install(session, "lint", package=False)
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("lint-imports", env={"PYTHONPATH": "src"})


@nox.session
def format(session: nox.Session) -> None:
    """Formats the code, and mends what ruff can mend by itself."""
    install(session, "lint", package=False)
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")


@nox.session
def types(session: nox.Session) -> None:
    """Type-checks src with mypy, strictly."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, on the Python that runs nox: `nox -s tests -- tests/test_docs.py -k index`."""
    run_tests(session)


@nox.session
def matrix(session: nox.Session) -> None:
    """Exports, proves and places every decoder on one encoder of each kind."""
    install(session, "test")
    run = ("pytest", "-n", "2", "--dist", "worksteal", "-m", "matrix", "--durations", "5")
    session.run(*run, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The tests on every supported Python that can be found."""
    run_tests(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests with each dependency at exactly its lower bound, on the oldest Python."""
    bounds = Path(session.create_tmp(), "lowest.txt").resolve()
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    requirements = [re.sub(r"\[.*?\]", "", line) for line in (*project["dependencies"], *extras)]
    bounds.write_text("\n".join(line.replace(">=", "==", 1) for line in requirements) + "\n")
    run_tests(session, "--constraint", str(bounds))


@nox.session
def newest(session: nox.Session) -> None:
    """The tests with the newest version of everything, whatever an earlier run has installed."""
    run_tests(session, "--upgrade")


@nox.session
def demo(session: nox.Session) -> None:
    """Builds a model, exports it, segments a photograph and shows it: `nox -s demo -- street.jpg`."""
    install(session, "photographs")
    session.run("segzoo", "demo", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Makes the sdist and the wheel in dist/, checks them, and uses the wheel in an empty environment."""
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
    """Stops the session unless the wheel holds every file of the package, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to("src").as_posix())
        for path in Path("src/segzoo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if "segzoo/py.typed" not in found or found != wanted:
        session.error(f"{wheel} is not what src/segzoo is: {sorted(found ^ wanted) or 'py.typed is missing'}")
    session.log(f"{wheel.name}: {len(found)} files, py.typed among them, and nothing that is not in src/segzoo")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the pages into site/, any warning being an error; `nox -s docs -- serve` shows them while you write."""
    install(session, "docs")
    # The theme advertises its successor at every start.
    session.run("mkdocs", *(session.posargs or ("build", "--strict")), env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def release(session: nox.Session) -> None:
    """A finished run becomes a model of the catalog: `nox -s release -- runs/default --data ../shared/camvid`."""
    install(session, "release")
    session.run("python", "tools/release.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measures segzoo beside what a user would take instead, training too: `nox -s bench -- --quick`."""
    install(session, "bench")
    session.run("python", "benchmarks/compare.py", *session.posargs, env={"OMP_NUM_THREADS": "2"})
    quick = ["--quick"] if "--quick" in session.posargs else []  # the other options are compare.py's
    session.run("python", "benchmarks/train.py", *quick, env={"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"})


@nox.session(name="bench-train")
def bench_train(session: nox.Session) -> None:
    """Training steps beside a peer's, and the loop's wait for its images: `nox -s bench-train -- --precision bf16`."""
    install(session, "bench")
    environment = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    session.run("python", "benchmarks/train.py", *session.posargs, env=environment)


@nox.session(name="bench-deploy")
def bench_deploy(session: nox.Session) -> None:
    """From a photograph's pixels to labels, beside a peer's export and torch: `nox -s bench-deploy -- --batches 1`."""
    install(session, "bench")
    session.run("python", "benchmarks/deploy.py", *session.posargs, env={"OMP_NUM_THREADS": "2"})


@nox.session(name="bench-loading")
def bench_loading(session: nox.Session) -> None:
    """Loading weights from files, beside a peer's way and the bare minimum."""
    install(session, "bench")
    session.run("python", "benchmarks/loading.py", *session.posargs, env={"OMP_NUM_THREADS": "2"})


@nox.session(name="bench-crf")
def bench_crf(session: nox.Session) -> None:
    """The dense CRF on a photograph, stage by stage: `nox -s bench-crf -- --preset deeplab`."""
    install(session, "bench")
    session.run("python", "benchmarks/crf.py", *session.posargs, env={"OMP_NUM_THREADS": "2"})
