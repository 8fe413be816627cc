"""The typed, frozen form of one run, which `bind.py` makes of a normalised tree.

Nothing in here depends on the machine, the network or the clock. Field names are the spec's keys; `tests/compiler/`
holds this file and `schema/experiment.schema.json` to each other in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Literal

from ..diagnostics.record import record
from ..extensions.methods import method_needs_teacher
from ..extensions.terms import looks_at_teacher, needs_of
from ..tasks.task import TaskName

Strategy = Literal["spaced", "first", "last", "middle", "all"]
Part = Literal["encoder", "embeddings", "positions"]


# --- models ------------------------------------------------------------------------------------


@record
class Architecture:
    """A model from scratch. Depths in layers, widths in units, `max_positions` in tokens. `decoder_layers` None: the
    family has no decoder."""

    family: str
    encoder_layers: int
    decoder_layers: int | None
    d_model: int
    heads: int
    ffn_dim: int
    dropout: float
    max_positions: int


@record
class TokenizerTraining:
    """A tokenizer that is trained on the training data. `vocab_size` counts special tokens too."""

    kind: Literal["bpe", "unigram", "wordpiece"]
    vocab_size: int


@record
class ModelReference:
    """An existing model: exactly one of `hub`, `path`, `mlflow`, `spec` is set. `variant`: which run of the spec;
    `model`: what of it, None: its student."""

    hub: str | None
    revision: str | None
    path: str | None
    mlflow: str | None
    spec: str | None
    variant: str | None
    model: Literal["student", "teacher"] | None


@record
class Teacher:
    """A reference, or an architecture with a tokenizer; `train` makes training it a stage of its own."""

    reference: ModelReference | None
    architecture: Architecture | None
    tokenizer: TokenizerTraining | None
    seed: int
    train: Training | None


@record
class LayerOrigin:
    """Where the layers of one student stack come from. `from_` None is the teacher."""

    from_: ModelReference | None
    layers: Strategy | tuple[int, ...]


@record
class OutsideOrigin:
    """A model other than the teacher that gives a student what is outside of its layer stacks."""

    from_: ModelReference


@record
class StudentInit:
    """`embeddings` covers everything outside the layer stacks; a stack is an origin or random. `fold_token_types`:
    are those that the student has no place for added to its positions?"""

    embeddings: Literal["teacher", "random"] | OutsideOrigin
    encoder: LayerOrigin | Literal["random"]
    decoder: LayerOrigin | Literal["random"]
    fold_token_types: bool | None


@record
class Student:
    """Depths None: as the teacher's. Widths None: as the teacher's. So is the family."""

    family: Literal["distilbert"] | None
    encoder_layers: int | None
    decoder_layers: int | None
    d_model: int | None
    heads: int | None
    ffn_dim: int | None
    init: StudentInit
    freeze: Literal["auto", "none"] | tuple[Part, ...]


# --- training ----------------------------------------------------------------------------------


@record
class Sampling:
    """Tokens are drawn. `top_k` None, `top_p` 1: no cut."""

    top_k: int | None
    top_p: float
    temperature: float
    seed: int


@record
class Generation:
    """None everywhere: the checkpoint's own setting stays. Lengths in tokens."""

    beams: int | None
    length_penalty: float | None
    min_length: int | None
    max_length: int | None
    no_repeat_ngram: int | None
    early_stopping: bool | None
    engine: Literal["auto", "ctranslate2", "transformers"] | None
    compute_type: Literal["fp32", "fp16", "bf16", "int8"] | None
    sampling: Sampling | None


NOTHING_SAID = Generation(
    beams=None, length_penalty=None, min_length=None, max_length=None, no_repeat_ngram=None, early_stopping=None,
    engine=None, compute_type=None, sampling=None,
)  # fmt: skip


@record
class Batch:
    """One optimizer step over all devices, in examples or in source + target tokens."""

    examples: int | None
    tokens: int | None


@record
class Optimizer:
    name: Literal["adamw", "adafactor"]
    betas: tuple[float, float]
    eps: float
    weight_decay: float


@record
class Warmup:
    """Exactly one of the two is set; `ratio` is a fraction of all steps."""

    steps: int | None
    ratio: float | None


@record
class Method:
    """A way to train, by its name, with its settings. `schedules`: what of them changes while the model is trained; the
    number that stands in its place is the larger of its two ends."""

    name: str
    settings: Mapping[str, Any]
    schedules: Mapping[str, Schedule]


@record
class Optimization:
    """The spec's `training` section. `dropout` None: the checkpoint's own stays (spec: `inherit`). `warmup` None: by
    the length of the training (spec: `auto`). `method` None: the model is trained as it is."""

    learning_rate: float
    schedule: Literal["linear", "cosine", "constant", "inverse-sqrt"]
    warmup: Warmup | None
    optimizer: Optimizer
    gradient_clipping: float | None
    dropout: float | None
    method: Method | None = None


@record
class Stopping:
    """Whichever comes first. `patience` in validations; `retention`: metric -> percent of the teacher."""

    max_epochs: float | None
    max_steps: int | None
    max_hours: float | None
    patience: int | None
    monitor: str
    min_delta: float
    retention: Mapping[str, float] | None


@record
class Every:
    """Exactly one of the two is set."""

    epochs: float | None
    steps: int | None


@record
class Validation:
    """`limit` in examples (the first ones); metrics beyond `loss` need generation."""

    every: Every
    limit: int | None
    metrics: tuple[str, ...]
    generation: Generation


@record
class Moment:
    """When something happens in a training; exactly one of the three is set. `ratio`: a fraction of all steps."""

    epochs: float | None
    steps: int | None
    ratio: float | None


@record
class Schedule:
    """A number of the loss that changes: `from_` until `begin`, `to` from `end` on (None: the end of the training;
    a `step` has none)."""

    from_: float
    to: float
    shape: Literal["linear", "cosine", "step"]
    begin: Moment
    end: Moment | None


def is_schedule(value: Any) -> bool:
    """Is this value of a loss one that changes?"""
    return isinstance(value, Mapping) and {"from", "to"} <= set(value)


@record
class LabelsTerm:
    weight: float
    smoothing: float


@record
class Candidates:
    """Next tokens that stand for the teacher's distribution: its `number` most probable ones, or so many draws."""

    kind: Literal["top-k", "sampled"]
    number: int


@record
class LogitsTerm:
    """`beta` is jsd's, `alpha` skew-kl's; `positions` is masked-lm's. `candidates` None: all tokens are compared."""

    weight: float
    temperature: float
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "skew-kl", "mse"]
    beta: float | None
    alpha: float | None
    positions: Literal["all", "masked"] | None
    candidates: Candidates | None


@record
class HiddenTerm:
    """A weight for each stack."""

    encoder: float
    decoder: float
    layer_norm: Literal["none", "per-token", "per-batch"]
    align: Literal["outputs", "inputs"]


@record
class AttentionTerm:
    """A weight for each kind of attention. `maps`: after the softmax, or before it."""

    encoder_self: float
    decoder_self: float
    decoder_cross: float
    maps: Literal["probabilities", "scores"]


@record
class Loss:
    """The terms of a loss; None: the term is off. A term with the weight 0 is off, too. `own`: the settings of
    the terms that are known by their schema fragments alone, those of installed packages among them.

    `schedules`: what changes while the model is trained, by its path in the loss ("logits.weight", "cosine"). The
    number that stands in its place is the larger of its two ends, so a term that is on at any time is on.
    """

    labels: LabelsTerm | None
    logits: LogitsTerm | None
    hidden: HiddenTerm | None
    attention: AttentionTerm | None
    cosine: float | None
    embedding: float | None
    own: Mapping[str, Mapping[str, Any]]
    schedules: Mapping[str, Schedule]

    @property
    def needs_teacher(self) -> bool:
        """Does any term look at the teacher while the student is trained? Its candidates are kept before."""
        return any(looks_at_teacher(name, settings) for name, settings in self.terms.items())

    @property
    def needs_phi(self) -> bool:
        """Does any term pair layers?"""
        return any("phi" in needs_of(name) for name in self.terms)

    @property
    def terms(self) -> dict[str, Mapping[str, Any]]:
        """The terms that are on with their settings; a number is its weight."""
        found: dict[str, Mapping[str, Any]] = {}
        for field in fields(self):
            term = getattr(self, field.name)
            if field.name not in ("own", "schedules") and term is not None:
                found[field.name] = {"weight": term} if isinstance(term, float) else asdict(term)
        return {**found, **self.own}


@record
class Training:
    """How one model is trained: the student's sections, or `teacher.train`."""

    batch: Batch
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    optimization: Optimization
    stopping: Stopping
    validation: Validation
    loss: Loss

    @property
    def needs_teacher(self) -> bool:
        """Is a teacher there while the model is trained, for a term of its loss or for the way to train it?"""
        method = self.optimization.method
        return self.loss.needs_teacher or (method is not None and method_needs_teacher(method.name))


# --- data and evaluation -----------------------------------------------------------------------


@record
class DataSource:
    """Exactly one of `hub`, `files`, `builtin` is set. `limit`: the first N rows."""

    hub: str | None
    config: str | None
    revision: str | None
    split: str | None
    files: tuple[str, ...] | None
    builtin: str | None
    limit: int | None


@record
class Columns:
    """Names of columns; "" for what the task does not have. A classification reads `source`, the text or
    the premise, and `hypothesis`, None without pairs; masked-lm reads `source`."""

    source: str
    hypothesis: str | None
    target: str
    id: str | None


@record
class Masking:
    """Shares in percent: `share` of the tokens are predicted, of which `masked` are masked and `random`
    replaced; `rare` is the exponent that favours rare tokens."""

    share: float
    masked: float
    random: float
    rare: float


@record
class Labeller:
    """Who writes targets: a model (`by` None is the teacher), or a `file` made elsewhere, which has two columns.
    `max_source_tokens` None: as the student's data, as far as the model has positions. `prefix` None: the data's, for a
    model of the teacher's family. What a label must pass: `min_rouge2`, `min_bleu` and `max_repetition` in percent,
    length ratios in characters to the original target."""

    by: ModelReference | None
    file: str | None
    file_id: str
    file_text: str
    generation: Generation
    max_source_tokens: int | None
    prefix: str | None
    best_of: int | None
    min_rouge2: float | None
    min_bleu: float | None
    min_length_ratio: float | None
    max_length_ratio: float | None
    max_repetition: float | None


@record
class Data:
    """`test` maps a test set's name to its sources; a single test set is named `test`."""

    train: tuple[DataSource, ...]
    validation: tuple[DataSource, ...]
    test: Mapping[str, tuple[DataSource, ...]]
    columns: Columns
    max_source_tokens: int
    max_target_tokens: int
    prefix: str
    source_language: str | None
    target_language: str | None
    labels: tuple[str, ...] | None
    masking: Masking | None


@record
class Speed:
    """`batch_size` in examples, `repeats` timed passes after one warm-up, over the first `examples`."""

    batch_size: int
    repeats: int
    examples: int


@record
class Export:
    """The student in a form in which it is served."""

    engine: Literal["ctranslate2", "onnx"]
    compute_type: Literal["fp32", "fp16", "bf16", "int8"]


@record
class Rouge:
    tokenizer: Literal["default", "unicode"] | None
    stemmer: bool | None


@record
class Bleu:
    tokenize: Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "none"] | None


@record
class Evaluation:
    """`generation` is the student's; the teacher's is `of_teacher`. `exports`: forms of the student that are measured
    beside it. How ROUGE and BLEU find words, None: as the language of the targets asks for (`scoring.py`)."""

    metrics: tuple[str, ...]
    generation: Generation
    teacher_generation: Generation
    limit: int | None
    speed: Speed | None
    exports: tuple[Export, ...]
    rouge: Rouge
    bleu: Bleu

    def of_teacher(self, from_scratch: bool) -> Generation:
        """As `teacher_generation` says; where it says nothing, its checkpoint does. A teacher from scratch has none
        that says anything: it is searched as the student is, or the two could not be compared."""
        silent = replace(self.teacher_generation, engine=None) == NOTHING_SAID
        return self.generation if from_scratch and silent else self.teacher_generation


@record
class Baseline:
    """A system of others: the files of its predictions, by test set. `by_test_set` False: the spec names one file,
    that of the first. The columns None: as they are usually called. What is known of it is shown, not measured."""

    predictions: Mapping[str, str]
    by_test_set: bool
    id: str | None
    text: str | None
    million_parameters: float | None
    examples_per_second: float | None


@record
class Tracking:
    experiment: str
    tags: Mapping[str, str]


@record
class Expectation:
    """Published scores; `within`: the largest difference that counts as reproduced."""

    scores: Mapping[str, float]
    within: float | None
    source: str | None


@record
class Experiment:
    """One run, no unknowns left. `name` is the run's, with variant, matrix point and seed in it. `training`: the
    student's, of which `earlier_phases` come before, each going on with the model of the one before.
    `target_shares`: how often each row of a target is there, where the spec says it. `stages`: the settings of stages
    of other kinds than ours, by kind."""

    name: str
    variant: str | None
    seed: int
    task: TaskName
    teacher: Teacher
    student: Student
    phi_encoder: str | tuple[int, ...]
    phi_decoder: str | tuple[int, ...]
    training: Training
    earlier_phases: tuple[Training, ...]
    pseudo_labels: Mapping[str, Labeller]
    targets: tuple[str, ...]
    target_shares: Mapping[str, float]
    data: Data
    evaluation: Evaluation
    baselines: Mapping[str, Baseline]
    stages: Mapping[str, Mapping[str, Any]]
    expect: Mapping[Literal["teacher", "student"], Expectation]
    tracking: Tracking

    @property
    def phases(self) -> tuple[Training, ...]:
        """The student's trainings, in order: one, where a spec has no phases."""
        return (*self.earlier_phases, self.training)


ORIGINAL = "original"  # the target that the data themselves have
STUDENT = "student"  # no model: the hub's old ones without an organisation have other names
EXPECTED: tuple[Literal["teacher", "student"], ...] = ("teacher", "student")
