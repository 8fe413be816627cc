"""plan.json -> frozen dataclasses. Standard library only.

In: the bytes of a plan. Out: `Plan`. A plan of another format, with an unknown key, a missing key or a
value of another type is refused: the compiled plan is complete, the runtime has no defaults. So is one whose
strings lead out of the folders they are parts of, and one whose keys are not those of its settings. A field with a
default is an option that came after the first plans: where it is off the plan is without it, so that what was
computed before it came keeps its key. The field names are the contract with `schema/plan.schema.json`; a test
holds the two to each other.

Every stage has `settings` (in its key: they change the result) and `execution` (not in its key: where
and how it runs). Content that lies outside the store is named by fingerprint in `settings`;
`execution.locations` says where on this machine the fingerprint is found.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .failure import Failure
from .files.regular_file import open_regular
from .keys import facts_digest, run_key, stage_key
from .messages.credentials import without_credentials

FORMAT = 1

# --- settings, one class a stage kind ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExtensionRecord:
    """A term, metric or family of an installed package: who has it, and the sha256 of its files."""

    distribution: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Extended:
    """Settings of a stage that computes with models. `extensions`: those of installed packages that the result
    depends on, `terms.NAME`, `metrics.NAME` or `families.NAME`."""

    extensions: Mapping[str, ExtensionRecord] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data source. kind files: `fingerprints` are the sha256 of the files, in order, each found by
    `execution.locations`; kind hub: `name` is the repository and `revision` the commit; kind builtin:
    `name` is the corpus and `revision` the version of its generator. `limit`: the first N rows. `table` tabs: there are
    tables of tab-separated cells among the files, which have no quoting (a fact for the key: the suffix says it, too).
    """

    kind: Literal["files", "hub", "builtin"]
    name: str | None
    config: str | None
    revision: str | None
    split: str | None
    fingerprints: tuple[str, ...]
    limit: int | None
    table: Literal["tabs"] | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`hypothesis`: the second text of a pair (classification)."""

    source: str
    hypothesis: str | None
    target: str
    id: str | None


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """A tokenizer trained on the texts of the training data, targets among them where they are texts (else
    `columns.target` is empty). `family` decides the special tokens and what is put around a sequence."""

    algorithm: Literal["bpe", "unigram", "wordpiece"]
    vocab_size: int
    family: str
    train: tuple[Source, ...]
    columns: Columns


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Lengths in tokens, special tokens included; longer rows are truncated, the end token kept."""

    task: str
    train: tuple[Source, ...]
    validation: tuple[Source, ...]
    test: Mapping[str, tuple[Source, ...]]
    columns: Columns
    max_source_tokens: int
    max_target_tokens: int
    prefix: str
    source_language: str | None
    target_language: str | None
    labels: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(Extended):
    """Where a model comes from. kind architecture: `config` are the constructor arguments of the family's
    transformers config and `seed` draws the weights (needs: tokenizer). kind folder: `fingerprint`, found
    by `execution.locations`. kind hub: `repository` at commit `revision`. `num_labels`: classes of a
    classification head, None for any other; a head that the model does not have is drawn with `seed`."""

    kind: Literal["architecture", "folder", "hub"]
    family: str
    config: Mapping[str, Any] | None
    seed: int | None
    fingerprint: str | None
    repository: str | None
    revision: str | None
    num_labels: int | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class StackInit:
    """One student stack: `origin` is the role in `needs` whose model gives the layers, or None for random
    weights; `layers[i]` is the 0-based layer of the origin that student layer i is copied from."""

    origin: str | None
    layers: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class StudentSettings(Extended):
    """`config` holds the config fields that differ from the teacher's (depths, widths); of another family
    than the teacher's: all sizes, by that family's names. `decoder_layers` is 0 for an encoder-only model.
    `seed` is None unless something is random. `num_labels`: classes of a classification head, None for any
    other. `parameters` is what the compiler computed; the built model must agree."""

    family: str
    config: Mapping[str, Any]
    encoder_layers: int
    decoder_layers: int
    embeddings: Literal["teacher", "random"]
    encoder: StackInit
    decoder: StackInit
    seed: int | None
    num_labels: int | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class LabelsTerm:
    weight: float
    smoothing: float


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Next tokens that stand for the teacher's distribution: its `number` most probable ones and all others as one
    outcome, or `number` draws from it. `vocabulary`: of the first so many tokens, which both models have."""

    kind: Literal["top-k", "sampled"]
    number: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class LogitsTerm:
    """`beta` is jsd's, `alpha` skew-kl's, `positions` masked-lm's. `candidates` None: all tokens are compared."""

    weight: float
    temperature: float
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "skew-kl"]
    beta: float | None
    alpha: float | None
    positions: Literal["all", "masked"] | None
    candidates: Candidates | None = None


@dataclass(frozen=True, kw_only=True)
class HiddenTerm:
    """A weight for each stack."""

    encoder: float
    decoder: float
    layer_norm: Literal["none", "per-token", "per-batch"]
    align: Literal["outputs", "inputs"]


@dataclass(frozen=True, kw_only=True)
class AttentionTerm:
    """A weight for each kind of attention."""

    encoder_self: float
    decoder_self: float
    decoder_cross: float


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """A layer for each student layer, by stack; None: no map."""

    encoder: tuple[int, ...] | None
    decoder: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When something happens; exactly one of the three is set. `ratio`: of the most steps that there can be."""

    epochs: float | None
    steps: int | None
    ratio: float | None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A number that changes: `initial` up to and with step `begin`, `final` from step `end` on. A step has no `end`:
    it is `final` from the first step after `begin` on."""

    initial: float
    final: float
    shape: Literal["linear", "cosine", "step"]
    begin: Moment
    end: Moment | None


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """The terms of the loss; None: off. `own`: the settings of terms of installed packages, by name. `phi`
    where a term pairs layers: the teacher layer whose output supervises each student layer. `schedules`: the
    numbers that change, by their path in the loss ("logits.weight", "cosine"); what stands at that path is the
    larger of the two ends, so a term that is on at any step is on."""

    labels: LabelsTerm | None
    logits: LogitsTerm | None
    hidden: HiddenTerm | None
    attention: AttentionTerm | None
    cosine: float | None
    embedding: float | None
    own: Mapping[str, Mapping[str, Any]]
    phi: LayerMaps | None
    schedules: Mapping[str, Schedule] = field(default_factory=dict)

    @property
    def terms(self) -> dict[str, Any]:
        """The terms that are on, ours first: name -> settings, or the weight alone."""
        ours = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NO_TERMS}
        return {**{name: value for name, value in ours.items() if value is not None}, **self.own}


NO_TERMS = ("own", "phi", "schedules")  # fields of the settings that are no term of ours


@dataclass(frozen=True, kw_only=True)
class MaskingSettings:
    """Masked-lm, in percent: `share` of the tokens are predicted; `masked` of those are masked, `random`
    replaced. `rare`: exponent of the inverse count by which tokens are chosen."""

    share: float
    masked: float
    random: float
    rare: float


ComputeType = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Tokens are drawn, not searched for. `top_k` None, `top_p` 1: no cut. The draws depend on `seed`, the
    example and the number of the draw alone."""

    top_k: int | None
    top_p: float
    temperature: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """None: the checkpoint's own setting stays. Lengths in tokens. `compute_type` (of ctranslate2) is what the
    weights are calculated with; `named`: the engine was asked for by name, so that it works in its own way where
    the two differ; `n_best`: hypotheses a source (None: one). `default_max_length`: of a checkpoint that has no setting
    of its own."""

    engine: Literal["ctranslate2", "transformers"]
    beams: int | None
    length_penalty: float | None
    min_length: int | None
    max_length: int | None
    no_repeat_ngram: int | None
    early_stopping: bool | None
    compute_type: ComputeType | None = None
    named: bool = False
    sampling: SamplingSettings | None = None
    n_best: int | None = None
    default_max_length: int | None = None


BleuTokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "none"]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How metrics find words. ROUGE's `default` knows the letters a to z alone, and `stemmer` takes English endings
    off; `unicode` knows every script. `bleu_tokenize` is a tokenizer of sacrebleu. `line_break`: what stands for a line
    break in the texts of a model (None: nothing does)."""

    rouge_tokenizer: Literal["default", "unicode"] = "default"
    stemmer: bool = True
    bleu_tokenize: BleuTokenizer = "13a"
    line_break: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """One optimizer step over all devices. unit tokens: source + target tokens, special tokens included."""

    unit: Literal["examples", "tokens"]
    size: int


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    name: Literal["adamw", "adafactor"]
    betas: tuple[float, float]
    eps: float
    weight_decay: float


@dataclass(frozen=True, kw_only=True)
class StoppingSettings:
    """Whichever comes first. `retention` is absolute here: metric -> percent of the teacher's score, the
    score taken from the stage in role `reference`."""

    max_epochs: float | None
    max_steps: int | None
    max_hours: float | None
    patience: int | None
    monitor: str
    min_delta: float
    retention: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """`every_epochs` or `every_steps`. `limit` in examples. Metrics beyond `loss` are generated."""

    every_epochs: float | None
    every_steps: int | None
    limit: int | None
    metrics: tuple[str, ...]
    generation: GenerationSettings | None
    scoring: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Rates that replace those of the model's config."""

    hidden: float


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """A way to train: what it is registered as, and its settings. `schedules`: what of them changes while the model is
    trained; the number in its place is the larger of its two ends."""

    name: str
    settings: Mapping[str, Any]
    schedules: Mapping[str, Schedule] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Extended):
    """needs: `data` (or the mixed `targets`), `model`, `teacher` where a term or the way to train looks at it,
    `candidates` where those of the teacher are kept. `method` None: the student is trained as it is."""

    task: str
    seed: int
    precision: Literal["fp32", "bf16", "fp16"]
    objective: ObjectiveSettings
    masking: MaskingSettings | None
    freeze: tuple[Literal["encoder", "embeddings", "positions"], ...]
    batch: BatchSettings
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant", "inverse-sqrt"]
    warmup_steps: int | None
    warmup_ratio: float | None
    optimizer: OptimizerSettings
    gradient_clipping: float | None
    dropout: Dropout | None
    stopping: StoppingSettings
    validation: ValidationSettings
    trainable_parameters: int
    method: MethodSettings | None = None


@dataclass(frozen=True, kw_only=True)
class KeptCandidates(Candidates):
    """`temperature`: of the distribution. `seed`: of the draws, which depend on it, the row and the position alone;
    None: nothing is drawn."""

    temperature: float
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class SignalsSettings(Extended):
    """States of a teacher for every training row. `side`: of its encoder, for each source, or of its decoder, for
    each pair; `last`: the final states; `layers`: whose outputs; `candidates`: next tokens, with what the teacher
    gives them. needs: `model`, `data` (or `targets`)."""

    side: Literal["encoder", "decoder"]
    last: bool
    layers: tuple[int, ...]
    precision: Literal["fp32", "bf16", "fp16"]
    candidates: KeptCandidates | None = None


@dataclass(frozen=True, kw_only=True)
class ConvertSettings(Extended):
    """The model in role `model` in the form of another engine."""

    format: Literal["ctranslate2"]
    compute_type: ComputeType


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Extended):
    """`split` is `test` (all test sets) or `validation`; `limit` the first N examples."""

    task: str
    split: Literal["test", "validation"]
    limit: int | None
    metrics: tuple[str, ...]
    generation: GenerationSettings | None
    precision: Literal["fp32", "bf16", "fp16"]
    scoring: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """Predictions made elsewhere: the sha256 of the file, what kind of file it is (its suffix), its columns (None:
    they are looked for). `table`: as of a `Source`."""

    fingerprint: str
    kind: str
    id: str | None
    text: str | None
    table: Literal["tabs"] | None = None


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Extended):
    """Scores of what a system of others wrote: test set -> its file. `limit`: the first N examples."""

    task: str
    limit: int | None
    metrics: tuple[str, ...]
    predictions: Mapping[str, PredictionFile]
    scoring: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(Extended):
    """Speed of generation on the first `examples` of the first test set; `device` names the machine."""

    task: str
    batch_size: int
    repeats: int
    examples: int
    generation: GenerationSettings | None
    precision: Literal["fp32", "bf16", "fp16"]
    device: str


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """Labels made elsewhere: the sha256 of the file, its columns. `table`: as of a `Source`."""

    fingerprint: str
    id: str
    text: str
    table: Literal["tabs"] | None = None


@dataclass(frozen=True, kw_only=True)
class PseudoLabelSettings(Extended):
    """Targets for the training sources: written by the model in role `model`, taken from `file`, or those of the
    stage in role `labels`, held to other rules.
    Of several texts (`generation.n_best`) the one closest to the original target is the label. What a label must
    pass: `min_rouge2` and `min_bleu` in percent against the original target, length ratios in characters to it,
    `max_repetition` in percent of the label's runs of three words."""

    task: str
    source: Literal["model", "file", "labels"]
    train: tuple[Source, ...]
    columns: Columns
    prefix: str
    source_language: str | None
    target_language: str | None
    max_source_tokens: int | None
    generation: GenerationSettings | None
    precision: Literal["fp32", "bf16", "fp16"] | None
    file: LabelFile | None
    min_rouge2: float | None
    min_bleu: float | None = None
    min_length_ratio: float | None = None
    max_length_ratio: float | None = None
    max_repetition: float | None = None
    scoring: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True, kw_only=True)
class TargetsSettings:
    """The rows a student is trained on: the original targets and labels, one after the other. `shares`: how
    often each row of a target is there, where that is not once. needs: `data`, `tokenizer` and a role
    `labels.NAME` for each labeller."""

    targets: tuple[str, ...]
    max_target_tokens: int
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OwnSettings(Extended):
    """Of a kind that a spec names under `stages`: what it says there, by the kind's own schema."""

    own: Mapping[str, Any]


Settings = (
    TokenizerSettings
    | DataSettings
    | TeacherSettings
    | StudentSettings
    | PseudoLabelSettings
    | TargetsSettings
    | SignalsSettings
    | TrainSettings
    | EvaluateSettings
    | BaselineSettings
    | BenchmarkSettings
    | ConvertSettings
    | OwnSettings
)

KINDS: dict[str, type[Any]] = {  # all others have `OwnSettings`
    "tokenizer": TokenizerSettings,
    "data": DataSettings,
    "teacher": TeacherSettings,
    "student": StudentSettings,
    "pseudo-labels": PseudoLabelSettings,
    "targets": TargetsSettings,
    "signals": SignalsSettings,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "baseline": BaselineSettings,
    "benchmark": BenchmarkSettings,
    "convert": ConvertSettings,
}

TRAINING = "train"  # the stage that trains the run's student; in phases, the last one
_PHASE = re.compile(r"train-([1-9][0-9]*)")  # the stage of an earlier phase
TEACHER_TRAINING = "teacher-train"  # the stage that trains the run's teacher; a named run's is RUN/teacher-train

# --- execution, stages, plan ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a stage runs here. `micro_batch_tokens`: padded source + target tokens that one device takes at
    a time; `save_minutes`: how often a training checkpoint is written (0: after every step);
    `deepspeed`: the engine's config (train stages); `teacher_deepspeed`: of a teacher whose weights are shared out,
    None: it is whole on every device. `checkpointing`: activations of the trained layers are computed again in the
    backward pass. `signals`: side -> id of the earlier stage whose states are
    read instead of computed; they are equal, so they are in no key."""

    locations: Mapping[str, str]
    micro_batch_tokens: int | None
    save_minutes: float | None
    deepspeed: Mapping[str, Any] | None
    teacher_deepspeed: Mapping[str, Any] | None = None
    checkpointing: bool = False
    signals: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One unit of work. `needs`: role -> id of an earlier stage of the plan."""

    id: str
    kind: str
    key: str
    needs: Mapping[str, str]
    settings: Any
    execution: Execution

    @property
    def reads(self) -> dict[str, str]:
        """All that it reads: `needs`, and the signals as roles `signals.SIDE`."""
        return {**self.needs, **{f"signals.{side}": id for side, id in self.execution.signals.items()}}

    @property
    def section(self) -> str:
        """What stands in the spec before `loss`, `stopping` and `validation` of what this stage trains:
        `teacher.train.`, `training[0].` of a phase, or nothing for the student."""
        name = self.id.rpartition("/")[2]
        before = _PHASE.fullmatch(self.needs.get("model", "").rpartition("/")[2])
        if name == TEACHER_TRAINING:
            return "teacher.train."
        if phase := _PHASE.fullmatch(name):
            return f"training[{int(phase[1]) - 1}]."
        return f"training[{before[1]}]." if before and name == TRAINING else ""

    @property
    def optimization(self) -> str:
        """Where the spec says the learning rate and the optimizer of what this stage trains."""
        return self.section.removesuffix(".") if self.section.startswith("training[") else f"{self.section}training"


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    model: str
    family: str
    parameters: int
    trainable_parameters: int
    encoder_layers: int
    decoder_layers: int

    @property
    def shape(self) -> str:
        """`6-3`: the layers of its stacks, from the input up."""
        return "-".join(str(count) for count in (self.encoder_layers, self.decoder_layers) if count)


@dataclass(frozen=True, kw_only=True)
class TrackingSite:
    """`uri` None: MLFLOW_TRACKING_URI, else SQLite in the workspace. Without user, password and tokens: those are in
    MLFLOW_TRACKING_URI, where it is the same address."""

    uri: str | None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the plan runs. `device`: cpu or cuda. `hostfile` None: this machine alone. `scratch`: a folder for
    signals; None: they are in the store like all else."""

    workspace: str
    shared_stores: tuple[str, ...]
    offline: bool
    device: Literal["cpu", "cuda"]
    nodes: int
    per_node: int
    hostfile: str | None
    tracking: TrackingSite
    scratch: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tracking:
    experiment: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Published scores; `within`: the largest difference that counts as reproduced."""

    scores: Mapping[str, float]
    within: float | None
    source: str | None


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run of another spec that makes a model of this one, for the record."""

    file: str
    run: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class BaselineFacts:
    """What is known of a system of others and is no score of it. None: not known."""

    million_parameters: float | None
    examples_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run, lowered. `key` names the run (a hash of its stage keys); `places`: spec path -> [file,
    line, column], so that the runtime can point into the spec; `spec`: the resolved spec, for the record;
    `named`: the runs of other specs whose stages are here, by what stands before the ids of these; `baselines`:
    the systems of others in the result table, by name; `digest`: of what stands beside the stages (`keys.FACTS`) as it
    was compiled."""

    format: int
    name: str
    variant: str | None
    task: str
    seed: int
    key: str
    teacher: ModelSummary
    student: ModelSummary
    copy: LayerMaps
    phi: LayerMaps
    metrics: tuple[str, ...]
    expect: Mapping[str, Expectation]
    stages: tuple[Stage, ...]
    site: Site
    tracking: Tracking
    spec: Mapping[str, Any]
    places: Mapping[str, tuple[str, int, int]]
    named: Mapping[str, NamedRun] = field(default_factory=dict)
    baselines: Mapping[str, BaselineFacts] = field(default_factory=dict)
    digest: str = ""

    def stage(self, id: str) -> Stage:
        """The stage of that id. KeyError: there is none."""
        for stage in self.stages:
            if stage.id == id:
                return stage
        raise KeyError(id)

    @property
    def phases(self) -> list[Stage]:
        """The trainings of the student, in order: one, where the spec has no phases."""
        found = [self.stage(TRAINING)]
        while (before := self.stage(found[0].needs["model"])).kind == "train" and _PHASE.fullmatch(before.id):
            found.insert(0, before)
        return found

    def place(self, path: str | None) -> tuple[str, int, int] | None:
        """Where in the spec a path stands, or the nearest thing above it: file, line, column."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path.rpartition(".")[0]
        return None


def is_beside_plan(name: str) -> bool:
    """Is this a file that `compile` writes beside plan.json?"""
    return re.fullmatch(r"lock\.yaml|launch\.sh|deepspeed\..+\.json", name) is not None


# --- binding -------------------------------------------------------------------------------------


def load_plan(path: Path, *, to_run: bool = True) -> Plan:
    """Read and bind a plan. `to_run` False: what was computed is looked at, and nothing is computed, so that a plan
    of an earlier version will do, whose keys are made otherwise now.

    Raises `Failure` (R1xx) when the file is missing, is not JSON, is of another format, or does not fit; R110 when
    its keys are not those of what it says.
    """
    if path.is_dir():
        path = path / "plan.json"
    tree = _read_tree(path)
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != FORMAT:
        raise Failure(
            "R103",
            f"{path} has plan format {found!r:.40}, this distilc reads format {FORMAT}",
            "compile the spec again with the installed version",
        )
    try:
        plan = bind_plan(tree)
    except OverflowError as error:
        raise _misfit("plan", f"holds a number that is too large ({error})") from error
    _check_paths(plan)
    _check_engines(plan)
    if to_run:
        _check_keys(plan, tree, path)
    return plan


def _read_tree(path: Path) -> Any:
    again = "compile it again: distilc compile SPEC"
    try:
        with open_regular(path) as file:
            tree = json.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise Failure("R101", f"cannot read the plan {path}: {error.strerror}", again) from error
    except RecursionError as error:
        raise Failure("R102", f"{path} is not a plan: it is nested too deep", again) from error
    except ValueError as error:
        raise Failure("R102", f"{path} is not a plan: {error}", again) from error
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
    if level:
        raise Failure("R102", f"{path} is not a plan: it is nested more than {MAX_DEPTH} deep", again)
    return tree


MAX_DEPTH = 100  # a spec has at most 50


def _children(node: dict[str, Any] | list[Any]) -> Any:
    return node.values() if isinstance(node, dict) else node


def bind_plan(tree: Mapping[str, Any]) -> Plan:
    """Bind a parsed plan. Raises `Failure` R104 naming the path of the first thing that does not fit."""
    tree = dict(tree)
    stages = tree.get("stages")
    if isinstance(stages, list):
        tree["stages"] = [_bind_settings(stage, f"stages[{i}]") for i, stage in enumerate(stages)]
    plan: Plan = bind(Plan, tree, "plan")
    known: dict[str, Stage] = {}
    for stage in plan.stages:
        for role, id in stage.reads.items():
            if id not in known:
                raise _misfit(f"stage {stage.id}", f"needs.{role} names {id!r}, which is no earlier stage")
        if stage.id in known:
            raise _misfit(f"stage {stage.id}", "is there twice")
        known[stage.id] = stage
    for id in EVERY_PLAN:
        if id not in known or known[id].kind != id:
            raise _misfit("plan.stages", f"has no stage {id!r} of that kind")
    return plan


EVERY_PLAN = ("data", "train")  # the stages that every plan has, each of the kind that it is called by


# --- what a plan may say ---------------------------------------------------------------------------
# A plan may come from others. What of it becomes a part of a path is held to a pattern, what configures the engine
# to the only config that its settings can have, and its keys to what they are made of.

_KEY = r"[0-9a-f]{64}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = rf"({_NAME}/)*[a-z][A-Za-z0-9_-]*"
_TEST_SET = r"[A-Za-z0-9_-]+"
_REPOSITORY = rf"{_NAME}(/{_NAME})?"
_REVISION = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/+@:-]*"
MOST_DEVICES = 65536  # of a machine
MOST_SEED = 2**32 - 1  # torch takes 64 bits, and a step's own seed is made of this one


def _check_paths(plan: Plan) -> None:
    """Raises `Failure` R104: a string of the plan would lead out of the folder that it names a part of."""
    _require(_NAME, plan.name, "plan.name")
    _require(_KEY, plan.key, "plan.key")
    site = plan.site
    for name, folder in (("workspace", site.workspace), ("scratch", site.scratch), ("hostfile", site.hostfile)):
        _require_absolute(folder, f"plan.site.{name}")
    if site.tracking.uri is not None and without_credentials(site.tracking.uri) != site.tracking.uri:
        raise Failure(
            "R111",
            f"the plan has a password in it: {site.tracking.uri}",
            "compile it again; passwords are taken from the site, or from MLFLOW_TRACKING_URI",
        )
    for i, folder in enumerate(site.shared_stores):
        _require_absolute(folder, f"plan.site.shared_stores[{i}]")
    for name, number in (("nodes", site.nodes), ("per_node", site.per_node)):
        if not 1 <= number <= MOST_DEVICES:
            raise _misfit(f"plan.site.{name}", f"is {number}, not a number from 1 to {MOST_DEVICES}")
    for stage in plan.stages:
        path = f"stage {stage.id!r}"
        _require(_ID, stage.id, f"{path}: id")
        _require(_KEY, stage.key, f"{path}: key")
        for content, place in stage.execution.locations.items():
            _require_absolute(place, f"{path}: execution.locations.{content}")
        settings = stage.settings
        if isinstance(settings, TeacherSettings):
            _require(_REPOSITORY, settings.repository, f"{path}: settings.repository")
            _require(_REVISION, settings.revision, f"{path}: settings.revision")
        test_sets = {**getattr(settings, "test", {}), **getattr(settings, "predictions", {})}
        for name in test_sets:
            _require(_TEST_SET, name, f"{path}: test set")
        train, validation = getattr(settings, "train", ()), getattr(settings, "validation", ())
        sources = [*train, *(validation if isinstance(validation, tuple) else ())]
        for source in [*sources, *(source for some in getattr(settings, "test", {}).values() for source in some)]:
            if source.kind == "hub":
                _require(_REPOSITORY, source.name or "", f"{path}: name of a data set")
                _require(_REVISION, source.revision, f"{path}: revision of a data set")


def _require(pattern: str, value: str | None, path: str) -> None:
    if value is not None and re.fullmatch(pattern, value) is None:
        raise _misfit(path, f"may not be {value!r:.120}")


def _require_absolute(place: str | None, path: str) -> None:
    if place is not None and (not place.startswith("/") or "\0" in place):
        raise _misfit(path, f"must be an absolute path, is {place!r:.120}")


def _check_engines(plan: Plan) -> None:
    """Raises `Failure` R104: an engine's config or the states that a stage reads are others than its settings have.
    Neither is in a key, so neither may change a result, or write what DeepSpeed's other options write."""
    stages = {stage.id: stage for stage in plan.stages}
    for stage in plan.stages:
        execution, path = stage.execution, f"stage {stage.id!r}: execution"
        for name in ("deepspeed", "teacher_deepspeed"):
            config = getattr(execution, name)
            if config is None:
                continue
            if not isinstance(stage.settings, TrainSettings):
                raise _misfit(f"{path}.{name}", "belongs to a training")
            clipping = stage.settings.gradient_clipping if name == "deepspeed" else None
            _check_engine(config, stage.settings.precision, clipping, f"{path}.{name}")
        for side, id in execution.signals.items():
            signals = stages[id]
            of_side = isinstance(signals.settings, SignalsSettings) and signals.settings.side == side
            if not of_side or signals.needs.get("model") != stage.needs.get("teacher", signals.needs.get("model")):
                raise _misfit(f"{path}.signals.{side}", f"names {id!r}, which does not hold these states")


def _check_engine(config: Mapping[str, Any], precision: str, clipping: float | None, path: str) -> None:
    partitions = config.get("zero_optimization")
    only: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": partitions,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "data_types": {"grad_accum_dtype": "fp32" if precision == "bf16" else None},
        "gradient_clipping": float(clipping or 0.0),
        "wall_clock_breakdown": False,
    }
    for key in dict.fromkeys([*config, *only]):
        if key == "steps_per_print" and isinstance(config[key], int):
            continue
        if key not in config or key not in only or config[key] != only[key]:
            raise _misfit(f"{path}.{key}", "is not what the settings of the stage make it")
    if not isinstance(partitions, Mapping):
        raise _misfit(f"{path}.zero_optimization", "must be a mapping")
    for key, value in partitions.items():
        offload = key in ("offload_optimizer", "offload_param") and value == {"device": "cpu", "pin_memory": True}
        number = key.startswith("stage3_") and isinstance(value, int)
        if not (offload or number or (key == "stage" and value in (0, 1, 2, 3))):
            raise _misfit(f"{path}.zero_optimization.{key}", f"may not be {value!r:.120}")


def _check_keys(plan: Plan, tree: Any, path: Path) -> None:
    """Raises `Failure` R110: a key is not that of what the plan says."""
    wrong, edited, keys = "", False, {stage.id: stage.key for stage in plan.stages}
    try:
        for stage, found in zip(plan.stages, tree["stages"], strict=True):
            needs = {role: keys[id] for role, id in stage.needs.items()}
            if stage_key(stage.kind, found["settings"], needs) != stage.key:
                wrong = f"of the stage {stage.id}"
                break
        else:
            wrong = "of the run" if run_key(tree["stages"]) != plan.key else ""
        edited = plan.digest != "" and facts_digest(tree) != plan.digest
    except ValueError as error:  # no number, or half a character
        raise _misfit("plan", f"holds what no key can be made of: {error}") from error
    if wrong:
        raise Failure(
            "R110",
            f"{path}: the key {wrong} is not that of its settings: the plan was edited, or another version of "
            "distilc compiled it",
            "change the spec, not the plan, and compile it again: distilc compile SPEC",
        )
    if edited:
        raise Failure(
            "R110",
            f"{path}: what stands beside its stages (seed, metrics, spec, ...) is not what was compiled: the plan was "
            "edited, and it would not do what it says",
            "change the spec, not the plan, and compile it again: distilc compile SPEC",
        )


def _bind_settings(stage: Any, path: str) -> Any:
    if not isinstance(stage, dict) or not isinstance(stage.get("kind"), str):
        raise _misfit(path, "is no stage of a kind")
    settings = KINDS.get(stage["kind"], OwnSettings)
    return {**stage, "settings": bind(settings, stage.get("settings"), f"{path}.settings")}


def bind(kind: Any, value: Any, path: str) -> Any:
    """`value` as `kind` (a dataclass, tuple, mapping, literal, union or plain type), strictly."""
    if kind is Any or (isinstance(kind, type) and is_dataclass(kind) and isinstance(value, kind)):
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        choices = get_args(kind)
        if value is None and NoneType in choices:
            return None
        remaining = [choice for choice in choices if choice is not NoneType]
        if len(remaining) == 1:
            return bind(remaining[0], value, path)
        for choice in remaining:
            try:
                return bind(choice, value, path)
            except Failure:
                continue
        raise _misfit(path, f"{value!r:.120} is none of {kind}")
    if origin is Literal:
        if value not in get_args(kind):
            raise _misfit(path, f"{value!r:.120} is not one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        return _bind_tuple(get_args(kind), value, path)
    if origin in (Mapping, dict):
        if not isinstance(value, Mapping):
            raise _misfit(path, "must be a mapping")
        item = get_args(kind)[1]
        return {str(key): bind(item, entry, f"{path}.{key}") for key, entry in value.items()}
    if is_dataclass(kind):
        return _bind_dataclass(kind, value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _misfit(path, f"must be {kind.__name__}, is {value!r:.120}")
    if kind is float and not math.isfinite(value):
        raise _misfit(path, "is no finite number")
    return value


def as_written(value: Any) -> Any:
    """A bound part of a plan as JSON data, as the plan has it: without the options that are off."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {entry.name: (entry, getattr(value, entry.name)) for entry in fields(value)}
        return {name: as_written(item) for name, (entry, item) in found.items() if not _is_off(entry, item)}
    if isinstance(value, Mapping):
        return {key: as_written(item) for key, item in value.items()}
    return [as_written(item) for item in value] if isinstance(value, list | tuple) else value


def _is_off(entry: Field[Any], value: Any) -> bool:
    if entry.name == "extensions":
        return False  # always written
    factory = entry.default_factory
    return bool(value == (entry.default if factory is MISSING else factory()))


def _bind_tuple(items: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _misfit(path, "must be a list")
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(bind(items[0], entry, f"{path}[{i}]") for i, entry in enumerate(value))
    if len(items) != len(value):
        raise _misfit(path, f"must have {len(items)} entries, has {len(value)}")
    return tuple(
        bind(item, entry, f"{path}[{i}]") for i, (item, entry) in enumerate(zip(items, value, strict=True))
    )


def _bind_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise _misfit(path, "must be a mapping")
    hints = get_type_hints(kind)
    names = {entry.name: entry for entry in fields(kind)}
    for key in value:
        if key not in names:
            raise _misfit(path, f"has an unknown key {key!r}")
    for name, entry in names.items():
        if name not in value and entry.default is MISSING and entry.default_factory is MISSING:
            raise _misfit(path, f"lacks the key {name!r}")
    seed = value.get("seed")
    if isinstance(seed, int) and not 0 <= seed <= MOST_SEED:
        raise _misfit(f"{path}.seed", f"must be a number from 0 to {MOST_SEED}, is {seed!r:.120}")
    return kind(**{name: bind(hints[name], entry, f"{path}.{name}") for name, entry in value.items()})


def _misfit(path: str, message: str) -> Failure:
    return Failure("R104", f"{path} {message}", "compile the spec again with the installed version")
