"""The project's tasks: `nox -l` lists them, `nox -s NAME` runs one, and arguments after `--` are passed on.

`python -m pip install "nox[uv]"` is the whole set-up. Each session creates its own environment with uv and keeps it.
The package is installed from a wheel built from this tree, so what is tested is what is shipped.
"""

import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

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

MAX_RUNTIME = 260
"""Megabytes of the runtime with onnxruntime for the CPU, and of all that they depend on."""

MODEL = "unet/mobilenetv4_conv_small/camvid"
"""The model that ships as an .onnx file."""

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
    """Builds sdists and wheels of both distributions into dist/, checks them, and uses them in empty environments."""
    install(session, "build", package=False)
    dist = Path("dist").resolve()
    shutil.rmtree(dist, ignore_errors=True)
    for project in ("runtime", "."):
        session.run("python", "-m", "build", "--outdir", str(dist), project)
    session.run("twine", "check", "--strict", *map(str, sorted(dist.iterdir())))
    (runtime,), (whole,) = dist.glob("segmentation_zoo_runtime-*.whl"), dist.glob("segmentation_zoo-*.whl")
    packed = check_contents(session, runtime, whole)
    check_runtime(session, runtime)
    check_both(session, runtime, whole, packed)


Packed = dict[Path, set[str]]
"""The files of the package in each wheel."""


def check_contents(session: nox.Session, *wheels: Path) -> Packed:
    """Fails the session unless the wheels are disjoint and together hold exactly the package's files in git."""
    packed = {wheel: set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels}
    packed = {wheel: {name for name in names if ".dist-info/" not in name} for wheel, names in packed.items()}
    listed = session.run("git", "ls-files", "src/segzoo", external=True, silent=True)
    wanted = {name.removeprefix("src/") for name in listed.split()}
    together = set.union(*packed.values())
    twice = set.intersection(*packed.values())
    if twice or together != wanted or "segzoo/py.typed" not in together:
        session.error(f"In both wheels: {sorted(twice)}. In src or the wheels alone: {sorted(together ^ wanted)}.")
    for wheel, names in packed.items():
        session.log(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB")
    return packed


def files_of(folder: Path) -> set[str]:
    """The files below a folder, without compiled ones."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


class Environment:
    """An empty environment, and what is installed into it, bytecode included, as pip does."""

    def __init__(self, session: nox.Session, name: str, *requirements: str) -> None:
        self.session = session
        self.root = Path(session.create_tmp(), name).resolve()
        self.scripts = self.root / ("Scripts" if sys.platform == "win32" else "bin")
        session.run("uv", "venv", "--clear", "--python", sys.executable, str(self.root))
        self.uv("install", "--compile-bytecode", *requirements)

    def uv(self, command: str, *args: str) -> None:
        self.session.run("uv", "pip", command, "--python", str(self.scripts / "python"), *args)

    def run(self, program: str, *args: str, **options: Any) -> Any:
        """Runs a program of the environment, in its folder."""
        with self.session.chdir(self.root):
            return self.session.run(str(self.scripts / program), *args, external=True, **options)

    @property
    def packages(self) -> Path:
        """Its folder site-packages."""
        return Path(
            self.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True).strip()
        )


def segment(environment: Environment) -> None:
    """Segments the photograph with the model in the runtime, from the command line and in Python."""
    photograph = Path("src/segzoo/data/photograph/temple.jpg").resolve()
    environment.run("segzoo", "demo", "-o", "out")
    environment.run("segzoo", "predict", str(photograph), "-o", "masks", "--overlay", "--force")
    script = (
        f"import segzoo; r = segzoo.Predictor({MODEL!r}).predict({str(photograph)!r}); assert r.areas()['Sky'] > 0.3"
    )
    environment.run("python", "-c", script)
    for name in ("out/temple-overlay.jpg", "masks/temple.png", "masks/temple-overlay.jpg"):
        if not (environment.root / name).is_file():
            environment.session.error(f"{name} was not written")


def check_runtime(session: nox.Session, wheel: Path) -> None:
    """Fails the session unless the runtime alone segments a photograph, has no torch, and is small."""
    environment = Environment(session, "runtime", f"{RUNTIME['project']['name']}[cpu] @ {wheel.as_uri()}")
    segment(environment)
    packages = environment.packages
    absent = ("torch", "torchvision", "timm", "onnx", "scipy")
    found = [name for name in absent if (packages / name).exists()]
    megabytes = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file()) / 1e6
    session.log(f"the runtime with [cpu] takes {megabytes:.0f} MB; none of {', '.join(absent)} is there")
    if found or megabytes > MAX_RUNTIME:
        session.error(f"It must stay below {MAX_RUNTIME} MB, without {found}.")
    output = environment.run("segzoo", "export", "unet", silent=True, success_codes=[1])
    if "pip install segmentation-zoo" not in " ".join(output.split()):
        session.error(f"`segzoo export` does not say what to install: {output}")


def check_both(session: nox.Session, runtime: Path, whole: Path, packed: Packed) -> None:
    """Fails the session unless each distribution's files survive the removal of the other."""
    environment = Environment(session, "both", str(runtime), str(whole))
    environment.run("segzoo", "list")
    environment.run("python", "-c", "import segzoo; segzoo.create('unet', 'mobilenet', num_classes=2)")
    segment(environment)
    for removed, kept in ((whole, runtime), (runtime, whole)):
        environment.uv("uninstall", removed.name.partition("-")[0])
        left = {f"segzoo/{name}" for name in files_of(environment.packages / "segzoo")}
        if left != packed[kept]:
            session.error(f"Without {removed.name}, these are too many or missing: {sorted(left ^ packed[kept])}")
        session.log(f"without {removed.name}, the {len(left)} files of {kept.name} are left")
        if kept == runtime:
            segment(environment)
            environment.uv("install", str(runtime), str(whole))


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


@nox.session(name="bench-startup")
def bench_startup(session: nox.Session) -> None:
    """Commands that need no torch, from start to end, compared with importing onnxruntime."""
    install(session, "bench")
    session.run("python", "benchmarks/startup.py", *session.posargs, env=TWO_THREADS)
