"""Reports retired names and British spellings in tracked files, with what to write instead.

    python tools/retired_words.py [FILE ...]

Without arguments it reads every tracked source, test, tool, benchmark, page and configuration file. It prints
path:line: word -> use instead, and exits with 1 if it finds any.
"""

import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCANNED = ("src/*", "tests/*", "docs/*", "tools/*", "benchmarks/*", "*.md", "*.toml", "*.yml", "*.py")
BINARY = (".png", ".jpg", ".safetensors", ".onnx")
NOT_SCANNED = ("CHANGELOG.md", "docs/glossary.md", "tools/retired_words.py", "tests/tools/test_retired_words.py")

# Whole identifiers.
IDENTIFIERS = {
    "LabelSet": "ClassSet", "label_set": "class_set", "LABEL_SETS": "CLASS_SETS", "labels.json": "classes.json",
    "logits_from_labels": "logits_from_mask", "label_agreement": "pixel_agreement", "HiddenWeights": "FC6FC7",
    "mean_iu": "mean_iou", "frequency_weighted_iu": "frequency_weighted_iou", "IU": "IoU",
    "before_pool": "pre_pool", "has_hidden": "has_fc6_fc7", "load_hidden": "load_fc6_fc7", "HiddenLayers": "FCHead",
    "score_layer": "head_conv", "join_full_size": "stride1_skip", "unknown_upsample": "unknown_upsample_mode",
    "own_near": "float64_agreement", "Obstacle": "DeviceIssue", "open_file": "create_session",
    "sha256_by": "sha256_source", "greatest_weight": "max_class_weight", "unweigh": "logit_adjustment",
    "leave_out": "holdout", "leave-out": "holdout", "leaving_out": "with_holdout", "criterion_of": "build_loss",
    "optimizer_of": "build_optimizer", "optimiser_of": "build_optimizer", "written_aside": "atomic_write",
    "with_ending": "require_suffix", "class_weights_of": "compute_class_weights", "loaders_of": "build_loaders",
}  # fmt: skip

# Regular expression: what to write instead, and a text that it matches.
PATTERNS = {
    r"\bsegzoo[./](?:runtime|catalog|checkpoints|names|labels|metadata|preprocess|render|figures|aside|factory"
    r"|converting|sharing|sources|model|crf|video|card|encoders|decoders|papers|layers|features)\b": (
        "the new path, see CHANGELOG.md", "segzoo.runtime"),
    r"(?:\bio=|--io(?![\w-]))": ("input=, --input", "--io tensor"),
    r"(?:\bfixed=\(|--fixed(?![\w-]))": ("static_shape=, --static-shape", "export(fixed=(1, 2, 3))"),
    r"(?:\bscores=|--scores(?![\w-]))": ("confidence=, --confidence", "export(scores=True)"),
    r"(?<!\w)(?:labels=|--labels\b)": ("classes=, --classes", 'create(labels="camvid")'),
    r"\bnarrow=": ("project=", "narrow=False"),
    r"\bbridge=": ("center=", 'bridge="convs"'),
    r"\bchannel_width\b|\bfeatures\.width\(": ("channels_at(level)", "features.width(3)"),
    r"\b(?:session|\w*predictor)\.why\b": ("device_reason", "session.why"),
    r"\bentry\.(?:place|here|unseen)\b": ("source, local_path, holdout_metrics", "entry.place"),
    r"\b(?:Model|Data|Validation|Borders|Loss|Optimizer|Schedule|Run|Hardware)Part\b": ("*Config", "RunPart"),
    r"\bclass Listener\b|\bListener\(": ("Callback", "Listener()"),
    r"\b(?:Proof|[Pp]roofs?|[Pp]rove[ds]?|[Uu]nproved)\b": ("verification, verify", "proved equal"),
    r"\b[Ll]abel sets?\b": ("class set", "label sets"),
    r"\b[Ll]abel maps?\b": ("mask", "a label map"),
    r"\b[Ww]ays? up\b": ("upsampling mode", "five ways up"),
    r"\b[Ss]witches\b": ("pooling indices", "SegNet's switches"),
    r"\bf(?:requency[- ]weighted|w) IU\b|\bmean IU\b": ("fw IoU, mean IoU", "mean IU"),
    r"\b(?:[Ff]loors? \d|(?:lowest|highest) floor)\b": ("nothing: the import contracts say it", "floor 0"),
    r"\b(?:in silence|to the letter|goes on|go on|going on|gone on|[Bb]eside|[Aa]side)\b|\bof its own(?=[.,;:)]|$)"
    r"|\b(?:is|are|be|was|were) had\b": ("plain English (CONTRIBUTING.md, House rules)", "in silence"),
    r"(?i)\b\w*(?:colou?|behavio|neighbo|favo|flavo|hono|labo|armo|harbo)ur\w*\b": ("-or", "colour"),
    r"(?i)\b\w*(?:normal|optim|color|colour|initial|organ|recogn|serial|visual|quant|general|regular|summar|minim|maxim"
    r"|penal|parametr|util|synchron|character|custom|equal|local|final|categor|vector|real|binar|token|standard"
    r"|polygon|raster|convolution)is(?:e|ed|er|ers|es|ing|able|ation|ations)\b": ("-ize, -ization", "normalise"),
    r"(?i)\b(?:anal|paral)ys(?:e|ed|er|ing)\b": ("-yze", "analyse"),
    r"(?i)\b\w*(?:(?:label|model|travel|signal|channel|initial|level)l(?:ed|ing))\b": ("a single l", "labelled"),
    r"(?i)\b(?:centre[ds]?|(?:centi|milli|kilo)?metres?|fibres?)\b": ("-er", "centre"),
    r"(?i)\b(?:un)?licen(?:ce[ds]?|cing)\b": ("license", "licence"),
    r"(?i)\b(?:gr[e]y(?:ish|scale|s)?|catalogue[ds]?|artefacts?|programmes?|defence|offence|fulfil|judgement|whilst"
    r"|amongst|learnt|spelt|ageing|cheques?|storeys?|tyres?|mould\w*)\b": ("the American spelling", "grey"),
}  # fmt: skip

# Uses that stay: a glob of the path, and what the line contains.
ALLOWED = (
    ("src/segzoo/models/layers/unpooling.py", "call the positions switches"),  # a quotation
    ("src/segzoo/models/layers/unpooling.py", "the exporter cannot prove"),
    ("tests/test_metrics.py", r"sklearn\.\w+\(.*labels="),
    ("tests/training/test_recipe.py", "'optimiser'. Did you mean 'optimizer'"),
)


def retired(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, word and what to write instead, for each retired word of a text."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, instead in RULES:
            for match in pattern.finditer(line):
                yield number, match[0], instead


def matches(path: str, line: str, glob: str, use: str) -> bool:
    """Whether an entry of `ALLOWED` covers this line."""
    return fnmatch.fnmatch(path, glob) and re.search(use, line) is not None


def report(paths: Iterable[str], root: Path = ROOT) -> list[str]:
    """A line for each retired word in these files."""
    found = []
    for path in paths:
        text = (root / path).read_bytes().decode("utf-8", "ignore") if Path(path).suffix not in BINARY else ""
        for number, word, instead in retired(text):
            if not any(matches(path, text.splitlines()[number - 1], *use) for use in ALLOWED):
                found.append(f"{path}:{number}: {word} -> {instead}")
    return found


def tracked() -> list[str]:
    """The files to scan."""
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    wanted = [path for path in listed if any(fnmatch.fnmatch(path, glob) for glob in SCANNED)]
    return [path for path in wanted if path not in NOT_SCANNED and (ROOT / path).is_file()]


RULES = [(re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])"), use) for word, use in IDENTIFIERS.items()]
RULES += [(re.compile(pattern), instead) for pattern, (instead, _) in PATTERNS.items()]

if __name__ == "__main__":
    hits = report(sys.argv[1:] or tracked())
    print("\n".join(hits) or "No retired words.")
    sys.exit(bool(hits))
