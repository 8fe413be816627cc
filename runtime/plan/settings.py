"""The settings of the stages: one record a stage kind. They are in the key of the stage, for they change its result;
content that lies outside the store is named by its fingerprint.

The plan is complete, and there are no defaults here. A field with one is an option that came after the first plans:
where it is off the plan is without it, so that what was computed before it came keeps its key. The names are the
contract with `schema/plan.schema.json`; a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal


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
    other. `parameters` is what the compiler computed; the built model must agree. `fold_token_types`: is row 0 of
    those that the student has no place for added to its positions?"""

    family: str
    config: Mapping[str, Any]
    encoder_layers: int
    decoder_layers: int
    embeddings: Literal["teacher", "random", "embeddings_origin"]
    encoder: StackInit
    decoder: StackInit
    seed: int | None
    num_labels: int | None
    parameters: int
    fold_token_types: bool = False


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
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "skew-kl", "mse"]
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
    """A weight for each kind of attention. `maps`: after the softmax, or before it."""

    encoder_self: float
    decoder_self: float
    decoder_cross: float
    maps: Literal["probabilities", "scores"] = "probabilities"


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
    """The model in role `model` in the form of another engine. `task`: of a model that is held to the original on rows
    of the task (needs: `data`); None: it needs none."""

    format: Literal["ctranslate2", "onnx"]
    compute_type: ComputeType
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class Served:
    """The form in which a model that writes no texts is evaluated and timed (needs: `converted`)."""

    engine: Literal["onnx"]
    compute_type: ComputeType


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Extended):
    """`split` is `test` (all test sets) or `validation`; `limit` the first N examples. `served` None: the model is
    evaluated as transformers has it, or as `generation` says."""

    task: str
    split: Literal["test", "validation"]
    limit: int | None
    metrics: tuple[str, ...]
    generation: GenerationSettings | None
    precision: Literal["fp32", "bf16", "fp16"]
    scoring: Scoring = field(default_factory=Scoring)
    served: Served | None = None


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
    """Speed on the first `examples` of the first test set; `device` names the machine, `served` is as in
    `EvaluateSettings`."""

    task: str
    batch_size: int
    repeats: int
    examples: int
    generation: GenerationSettings | None
    precision: Literal["fp32", "bf16", "fp16"]
    device: str
    served: Served | None = None


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
