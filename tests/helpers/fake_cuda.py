"""onnxruntime's CUDA provider on a machine without a GPU: it shows where every node would run, but computes nothing.

The provider needs five of NVIDIA's libraries. Stubs are compiled here whose functions do nothing and report one GPU of
compute capability 9.0. Creating a session then runs the provider's real kernel registry, graph partitioning and
insertion of copies between devices. Running such a session returns garbage.
"""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_BODIES = {
    "cudaGetDeviceCount": "int cudaGetDeviceCount(int *n) { *n = 1; return 0; }",
    "cudaGetDevice": "int cudaGetDevice(int *n) { *n = 0; return 0; }",
    "cudaGetDeviceProperties": (
        'int cudaGetDeviceProperties(char *p, int d) { memset(p, 0, 1024); strcpy(p, "stand-in"); return 0; }'
    ),
    # 75 and 76 are the compute capability, 16 the number of multiprocessors.
    "cudaDeviceGetAttribute": (
        "int cudaDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : a == 76 ? 0 : a == 16 ? 132 : 1024;"
        " return 0; }"
    ),
    "cudaMalloc": "int cudaMalloc(void **p, size_t n) { *p = malloc(n); return 0; }",
    "cudaMallocHost": "int cudaMallocHost(void **p, size_t n) { *p = malloc(n); return 0; }",
    "cudaHostAlloc": "int cudaHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return 0; }",
    "cudaFree": "int cudaFree(void *p) { free(p); return 0; }",
    "cudaFreeHost": "int cudaFreeHost(void *p) { free(p); return 0; }",
    "cudaMemGetInfo": "int cudaMemGetInfo(size_t *a, size_t *b) { *a = *b = (size_t)64 << 30; return 0; }",
    "cudaMemcpy": "int cudaMemcpy(void *d, const void *s, size_t n, int k) { memcpy(d, s, n); return 0; }",
    "cudaMemcpyAsync": (
        "int cudaMemcpyAsync(void *d, const void *s, size_t n, int k, void *q) { memcpy(d, s, n); return 0; }"
    ),
    "cudaRuntimeGetVersion": "int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }",
    "cudaDriverGetVersion": "int cudaDriverGetVersion(int *v) { *v = 13000; return 0; }",
    "cudaGetErrorString": 'const char *cudaGetErrorString(int e) { return "stand-in"; }',
    "cudaGetErrorName": 'const char *cudaGetErrorName(int e) { return "stand-in"; }',
    "__cudaRegisterFatBinary": "void **__cudaRegisterFatBinary(void *f) { static void *h; return &h; }",
}
_CREATES_HANDLE = re.compile(r"(cudaStreamCreate|cudaEventCreate|cublasCreate|cublasLtCreate)")

_SCRIPT = """
import json, os, sys, onnx, onnxruntime
optimized, *paths = sys.argv[1:]
result = {}
for path in paths:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.optimized_model_filepath = optimized
    session = onnxruntime.InferenceSession(path, options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert session.get_providers()[0] == "CUDAExecutionProvider", session.get_providers()
    placed = {}
    for part in session.get_provider_graph_assignment_info():
        placed.setdefault(part.ep_name, []).extend((node.op_type, node.name) for node in part.get_nodes())
    copies = sum(node.op_type.startswith("Memcpy") for node in onnx.load(optimized).graph.node)
    cuda, cpu = (placed.get(name + "ExecutionProvider", []) for name in ("CUDA", "CPU"))
    result[path] = {"cuda": [op for op, _ in cuda], "cpu": [op for op, _ in cpu], "copies": copies,
                    "cuda_nodes": [name for _, name in cuda]}
print("PLACEMENT" + json.dumps(result), flush=True)
os._exit(0)  # the stubs do not support an orderly shutdown
"""


def why_not() -> str | None:
    """Why the stubs cannot be used on this machine, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the stubs are for Linux on x86-64"
    if not (shutil.which("cc") and shutil.which("nm")):
        return "cc and nm, which build the stubs, are not installed"
    if not provider().is_file():
        return "the installed onnxruntime has no CUDA provider"
    return None


def provider() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"


def build(folder: Path) -> None:
    """Compiles a stub of each library that the provider needs."""
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", provider()], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    needed: dict[str, set[str]] = {
        name: set()
        for name in ("libcuda.so.1", "libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10")
    }
    for line in symbols:
        name = line.split()[-1] if line.split() else ""
        symbol, _, library = name.partition("@")
        if library in needed:
            needed[library].add(symbol)
        elif not library and re.match(r"cu[A-Z]", symbol):
            needed["libcuda.so.1"].add(symbol)
    for library, names in needed.items():
        lines = ["#include <stdlib.h>", "#include <string.h>", f"int {library.replace('.', '_')};"]
        for name in sorted(names):
            handle = "(void **p) { *p = malloc(8); return 0; }"
            stub = "() { return 0; }"
            lines.append(_BODIES.get(name, f"int {name}{handle if _CREATES_HANDLE.match(name) else stub}"))
        source, versions = folder / "source.c", folder / "versions"
        source.write_text("\n".join(lines))
        versions.write_text(f"{library} {{ global: *; }};")
        options = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{library}", f"-Wl,--version-script={versions}"]
        subprocess.run(["cc", *options, "-o", folder / library, source], check=True)


def placement(stubs: Path, files: list[Path]) -> dict[str, dict[str, Any]]:
    """Per file: the operators on "cuda" and "cpu", the number of "copies" between them, names of "cuda_nodes"."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT, f"{folder}/optimized.onnx", *map(str, files)],
            capture_output=True,
            text=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(stubs)},
        )
    line = next((line for line in run.stdout.split("\n") if line.startswith("PLACEMENT")), None)
    assert line is not None, run.stderr[-2000:]
    return json.loads(line.removeprefix("PLACEMENT"))
