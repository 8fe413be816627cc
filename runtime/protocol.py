"""What a term, a metric, a family, a stage kind, a way to train and a task must be: ours, and those of installed
packages.

A package registers objects of these classes as entry points, under the name that a spec calls them by:

    [project.entry-points."distilc.terms"]
    focal = "distilc_focal.focal:FOCAL"               # a Term
    [project.entry-points."distilc.metrics"]
    length_ratio = "distilc_focal.focal:LENGTH_RATIO" # a Metric
    [project.entry-points."distilc.families"]
    plbart = "distilc_focal.focal:PLBART"             # a Family
    [project.entry-points."distilc.stages"]
    layer_drift = "distilc_focal.drift:LAYER_DRIFT"   # a StageKind
    [project.entry-points."distilc.methods"]
    mixout = "distilc_focal.mixout:MIXOUT"            # a MethodKind

and says in `focal.schema.json`, beside `focal.py`, what the compiler has to know of them without importing
them (`schema/extension.schema.json`). distilc's own are registered in its own pyproject.toml, and so are its tasks
(`distilc.tasks`), which no package adds yet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .plan.settings import Scoring

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Stack = Literal["encoder", "decoder"]

# --- terms -----------------------------------------------------------------------------------------

# What has to be computed for a term: the student's logits, layer outputs, attention maps, embedding outputs, the
# state that the head reads; with `teacher` the teacher's too; with `phi` only the layers that φ pairs.
Need = Literal["logits", "hidden", "attention", "embeddings", "last-state", "teacher", "phi"]
# What the mean of a term is over, counted in the whole optimizer step. `label-tokens`: positions whose label
# counts (in masked-lm the masked ones); `source-tokens`: tokens of the encoder's input; `examples`.
Items = Literal["label-tokens", "source-tokens", "examples"]


@dataclass(frozen=True, kw_only=True)
class CandidateTokens:
    """Next tokens that stand for a teacher's distribution over the first `vocabulary` tokens, where the spec says so
    (`loss.logits.candidates`). ids (..., K) int64; log_probabilities (..., K) at the temperature of the term, for
    kind top-k (..., K + 1): the last is that of all other tokens."""

    kind: Literal["top-k", "sampled"]
    vocabulary: int
    ids: Tensor
    log_probabilities: Tensor

    def __getitem__(self, chosen: Any) -> CandidateTokens:
        """Those of some positions."""
        return replace(self, ids=self.ids[chosen], log_probabilities=self.log_probabilities[chosen])


@dataclass(frozen=True, kw_only=True)
class ModelOutputs:
    """What one model computed for a micro-batch; None: no term needs it. Any float type.

    logits (..., V), where (...) is the shape of the labels. Layer outputs: one tensor a layer, in order, layer
    0 first, the embedding output not among them: encoder (B, S, d), decoder (B, T, d). Attention maps: one a
    layer, (B, heads, queries, keys), after the softmax (for our own term before it, where the spec says so). Embedding
    outputs: what enters layer 0. The last state: what the head reads, (B, T, d). Candidates: of a teacher whose logits
    are not there.

    For a term that needs `phi` layer outputs and attention maps come in pairs: the k-th of the teacher is the one
    that φ gives the k-th layer of the student.
    """

    logits: Tensor | None = None
    encoder_layers: tuple[Tensor, ...] | None = None
    decoder_layers: tuple[Tensor, ...] | None = None
    encoder_self_attention: tuple[Tensor, ...] | None = None
    decoder_self_attention: tuple[Tensor, ...] | None = None
    decoder_cross_attention: tuple[Tensor, ...] | None = None
    encoder_embeddings: Tensor | None = None
    decoder_embeddings: Tensor | None = None
    last_state: Tensor | None = None
    candidates: CandidateTokens | None = None


@dataclass(frozen=True, kw_only=True)
class TermInputs:
    """What a term looks at: one micro-batch of B sources of S tokens and targets of T.

    labels (...) int64: (B, T), (B,) where an example has one, or (N,) where only some positions are computed at a time;
    -100 where nothing counts, which is also what to mask with; of a regression float32 (B,), NaN where nothing counts.
    source_mask (B, S) bool: the tokens that are read. A row with neither is no example: a rank without examples has
    one. masks: of each stack, from the input up, the tokens of its input that count, bool: those that are read, or
    those that a label stands for. The teacher's tensors carry no gradient. phi: student layer -> teacher layer, of each
    stack that has such a map.
    """

    student: ModelOutputs
    teacher: ModelOutputs | None
    labels: Tensor
    source_mask: Tensor
    phi: Mapping[Stack, Sequence[int]]
    masks: Mapping[Stack, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of the loss.

    sum(inputs, settings) returns a scalar with a gradient: the term's values summed over the items of the
    micro-batch, NOT their mean. The training loop divides by the number of `items` of the whole optimizer
    step, over all micro-batches and ranks, and multiplies by the weight; that is what makes the loss
    independent of how a step is cut. So the sum must be over single items: nothing in it may depend on which
    other items share the micro-batch. A micro-batch without items gives 0. Compute in float32.

    `settings` are the term's own of the spec, defaults filled in. `weight` names the setting that is the
    weight: a term of a package has one, `weight`; one of ours that has several (`hidden`: `encoder` and
    `decoder`) is registered as a tuple, one Term a weight. A term that needs only the logits may be called on
    some of the positions at a time.

    `stack`: the items are tokens of this stack's input (`last`: of the one that the head reads), which are label tokens
    or source tokens by what that stack reads in the model at hand; `items` says it for a term without.

    What `distilc verify` holds a term of a package to, both optional: `reference(inputs, settings)` is the term a
    second time, written as its paper writes it and with none of the code of `sum`: the MEAN over the items of a
    whole batch, a scalar in the float type of its inputs (float64), with a gradient; the inputs are those of
    ordinary forwards of transformers. `zero_when_equal`: the term compares student and teacher, and is zero where
    they are the same model.
    """

    sum: Callable[[TermInputs, Mapping[str, Any]], Tensor]
    items: Items
    needs: frozenset[Need]
    weight: str = "weight"
    reference: Callable[[TermInputs, Mapping[str, Any]], Tensor] | None = None
    zero_when_equal: bool = False
    stack: Stack | Literal["last"] | None = None


# --- metrics ---------------------------------------------------------------------------------------


# For each row its reference, or several of them.
References = Sequence[str | Sequence[str]]


def several(reference: str | Sequence[str]) -> Sequence[str]:
    """The references of a row that has one or several."""
    return (reference,) if isinstance(reference, str) else reference


@dataclass(frozen=True, kw_only=True)
class ScoreInputs:
    """What a metric looks at, all examples of a set at once.

    Metrics of texts get texts: what the model generated and the whole, untruncated references, in the same
    order. A row may have several references: `references` has the first of each, `all_references` all of them, the
    first one first. `scoring`: how the spec has words found. Metrics of labels get the names of the classes likewise,
    or, of a regression, the numbers as Python writes them.
    Metrics of the loss get `loss`, the mean cross-entropy of the labels in nats per label token, without smoothing or
    weights; of numbers the mean squared error.
    """

    predictions: Sequence[str] = ()
    references: Sequence[str] = ()
    all_references: Sequence[Sequence[str]] = ()
    scoring: Scoring = field(default_factory=Scoring)
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    score(names, inputs) returns {name: {"value": number, ...}} for each asked name. Metrics that share one
    `score` are asked for together, so that what they share is computed once. A share is in percent, 0 to 100; so is a
    correlation, -100 to 100.
    Beside the value may stand `low` and `high`, the 95 % interval, and what else is worth keeping (a
    signature, the version of a splitter). Called on every rank with equal inputs: it must be deterministic.
    """

    score: Callable[[Sequence[str], ScoreInputs], Mapping[str, Mapping[str, Any]]]
    needs: Literal["texts", "labels", "loss"]
    higher_is_better: bool = True


# --- families --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """The head over classes of a family, in the models of AutoModelForSequenceClassification. `linear`: its last
    projection; features(model, states, batch) -> (B, d): what that projects, of the last stack's states (B, S, d)."""

    linear: str
    features: Callable[[Any, Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """How a tokenizer that is trained for a family lays sequences out. `special`: its special tokens, by their ids from
    0; `named`: what they are to transformers ("pad_token" -> "<pad>"); `single`, `pair`: what is put around a text, and
    around two, as `tokenizers` writes it ("<s> $A </s>")."""

    special: tuple[str, ...]
    named: Mapping[str, str]
    single: str
    pair: str | None = None


@dataclass(frozen=True, kw_only=True)
class Converter:
    """What makes a family's models into ctranslate2's: `loader` names a class of its own; `normalize`: norm before each
    block, norm after the embeddings, which it looks for in the config and transformers 5 no longer says there."""

    loader: str
    normalize: tuple[bool, bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Names:
    """How another family calls what one of this has, ours -> theirs: the parts of a `layer`, what is `outside` of the
    layers (a parameter, or all below a name), and fields of the config beside the sizes. What is not named it has not.
    """

    layer: Mapping[str, str]
    outside: Mapping[str, str]
    config: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of models: where their parts live in transformers.

    `stacks`: the stacks that it has (encoder, decoder, or both), from the input up, and the module path of each;
    `layer_list`: its list of layers; `depths`: the config field that counts them. `shared`: the token embedding that
    the stacks share; `embed_tokens`, `positions`, `embedding_norm`, `final_norm`: names inside a stack (None: the
    family has none). `first_layer_only`: what only layer 0 owns, as it is named inside the layer. `head_scale`: the
    config flag that, when set, multiplies the logits by d_model ** -0.5. `decoder_start`: which token opens the decoder
    input, made of the labels (`language`: the code of the answer's, with which sequences are marked); None: no stack
    reads labels. `auto_class`: of transformers, whose models have the head over the vocabulary. `spare_positions`: the
    config counts rows of positions that stand for none, up to that of the padding token.

    `takes`: the families whose layers have a place in its own, with their names for it. `unread`: what checkpoints of
    the family may hold beside the model with that head (a pooler), by the beginnings of the names.

    head_features(model, states): what stands between the states (N, d) and that head, None: nothing. `classifier`:
    the head over classes; `layout`: of tokenizers trained for it; `converter`: for ctranslate2; None: there is none.
    """

    model_type: str
    stacks: dict[Stack, str]
    layer_list: str
    depths: dict[Stack, str]
    shared: str
    embed_tokens: str
    positions: str | None
    sinusoidal: bool
    embedding_norm: str | None
    final_norm: str | None
    first_layer_only: tuple[str, ...]
    head: str
    head_scale: str | None
    decoder_start: Literal["eos", "pad", "language"] | None
    auto_class: str = "AutoModelForSeq2SeqLM"
    spare_positions: bool = False
    head_features: Callable[[Any, Tensor], Tensor] | None = None
    classifier: Classifier | None = None
    layout: TokenLayout | None = None
    converter: Converter | None = None
    takes: Mapping[str, Names] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


# --- stage kinds -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StageKind:
    """What the stages of a kind do.

    run(stage, context) -> dict: reads the folders `context.inputs` (role -> folder; the roles are the `needs` of the
    schema fragment), writes the artifact into `context.folder`, and returns its summary: JSON, of rank 0, which goes
    into the manifest. `line` in it is shown when the stage is done. Of a kind that a spec names under `stages`,
    `stage.settings.own` are the settings that it gives, and the summary is part of the run's summary.json. Raises
    `Failure` for everything that a user can correct. `parallel`: do all ranks work, or rank 0 alone?
    """

    run: Callable[[Any, Any], dict[str, Any]]
    parallel: bool


# --- ways to train ---------------------------------------------------------------------------------


class Method(Protocol):
    """A way to train: it acts on the student before each step. For example: layers are passed over, or the teacher's
    stand for some of them.

    What it does must not change the names, shapes or number of the student's parameters once the engine has started,
    must leave every trained parameter a gradient, be it 0, and must be the same on every rank: its draws depend on
    the step, not on the rank.
    """

    def begin(self, student: Any, teacher: Any | None) -> None:
        """Before the engine starts. `teacher`: frozen, in eval mode, on the device in the precision of the run; there
        where its kind needs it."""

    def before_step(self, step: int) -> None:
        """Act on the student. `step` counts from 1."""

    def state(self) -> dict[str, Any]:
        """JSON: what it needs to go on after an interruption as if there had been none. Part of every checkpoint."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""

    def plain(self) -> AbstractContextManager[None]:
        """Within it the student is an ordinary model: it is validated and saved so."""


@dataclass(frozen=True, kw_only=True)
class MethodKind:
    """A way to train as it is registered. make(at, seed) -> Method: `at(step)` gives its settings of the spec, defaults
    filled in, as they are at the 1-based step. `needs_teacher`: does it look at the teacher?"""

    make: Callable[[Callable[[int], Mapping[str, Any]], int], Method]
    needs_teacher: bool = False


# --- tasks -----------------------------------------------------------------------------------------


class Evaluation(Protocol):
    """The answers of one model, judged. Every rank calls the same methods; what they return counts on rank 0 alone.
    `account`: what there is to say of it in one line, each part after a `; ` (empty: nothing)."""

    @property
    def account(self) -> str: ...

    def scores(self, rows: Any, num_examples: int, name: str) -> dict[str, Any]:
        """Metric -> {value, low, high, ...} on the first rows of a set (`Rows`); keeps the answers in the artifact."""

    def baselines(self, rows: Any, num_examples: int) -> dict[str, dict[str, Any]]:
        """Baseline -> its scores on the same rows: what costs nothing, and must be beaten."""

    def notices(self, scores: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
        """What to warn of, by set: `scores` and, of each baseline, its scores."""


class Task(ABC):
    """One task: how a row becomes tokens, which of them count, how answers are judged and what is timed. The rest of
    the run half asks it, by the name that the plan has (`extensions.TASKS`), and names none.

    `metrics`: what answers are scored by unless others are asked for. `label_metric`: how close a pseudo-label is to
    its row's own target. `pipeline`: the task on the hub. `numbers`: what is predicted is a number, not tokens.
    """

    metrics: tuple[str, ...]
    label_metric: str
    pipeline: str
    numbers: bool = False

    def classes(self, settings: Any, folder: Path) -> Any:
        """The classes (`data.classes.Classes`) that data (`DataSettings`) are sorted into, in the order of the outputs
        of the model in a folder; None: into none."""
        return None

    def configure(self, student: Any, teacher: Any | None, data: Path) -> None:  # noqa: B027
        """Let a model that is going to be trained on a data artifact say in its config what its outputs are. Raises
        `Failure`: it, or its teacher, is not a model of these data."""

    @abstractmethod
    def tokenize(
        self,
        rows: Iterable[dict[str, Any]],
        tokenizer: Any,
        settings: Any,
        counts: Any,
        on_progress: Callable[[int], None],
    ) -> Iterator[tuple[list[int], Sequence[float], dict[str, Any]]]:
        """(what the first stack reads, labels, raw row) of each row, in token ids; counts as it goes. The `labels` of
        the settings (`DataSettings`) are in the order of the model's outputs."""

    @abstractmethod
    def whole_lengths(self, raw: Mapping[str, Any], tokenizer: Any, settings: Any) -> dict[str, int]:
        """`source` and `target` of a raw row in tokens, before anything is cut."""

    def finish_data(self, folder: Path, tokenizer: Any) -> None:  # noqa: B027 (most tasks need nothing)
        """Put into a data artifact, beside its rows, what a training has to know of all of them."""

    def drawn(self, rows: Any, ids: Any, tokenizer: Any, settings: Any, epoch: int | None) -> Any:
        """The rows (`Rows`) with those of one optimizer step, `ids`, as an epoch of a training (`TrainSettings`) sees
        them, equal on every rank: where what is predicted is drawn anew. None: as every validation sees them."""
        return rows

    @abstractmethod
    def collate(self, rows: Any, ids: Any, pad_id: int) -> dict[str, Tensor]:
        """Padded tensors of these examples (`Rows`): `input_ids` and `attention_mask` (B, S); `labels`, -100 where
        nothing counts: (B, T) of the tokens that are written, (B, S) of those that are read, or (B,) of the examples,
        of numbers float32 and NaN there;
        what else a model's forward takes by its name (`token_type_ids`). No ids gives one row in which nothing counts.
        """

    @abstractmethod
    def num_items(self, rows: Any, ids: Any) -> dict[Items, int]:
        """What means are over, of these examples: the positions whose label counts, the tokens read, the examples."""

    @abstractmethod
    def evaluation(self, stage: Any, context: Any) -> Evaluation:
        """Of the model of an `evaluate` stage."""

    @abstractmethod
    def validate(self, asked: Validation) -> dict[str, float]:
        """Metrics of the answers of a model in training; the same numbers on every rank. The loss is not among them: it
        is the same for all tasks."""

    @abstractmethod
    def usage(self, text: str) -> list[str]:
        """The lines of Python with which a model card loads the model in `folder` and asks it about a text (a literal
        of Python)."""

    @abstractmethod
    def timed(self, stage: Any, context: Any, split: str) -> list[Timed]:
        """What is timed of the model of a `benchmark` stage, the plan's form first."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a task is asked in the middle of a training: `metrics` of the answers of `model`, in eval mode on `device`,
    to the rows `ids` of `rows` (`Rows`). `settings`: `ValidationSettings`; `context`: of the stage that trains it."""

    model: Any
    tokenizer: Any
    rows: Any
    ids: Any
    metrics: Sequence[str]
    settings: Any
    context: Any
    device: Any


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One form of a model on its way to be timed. measure(on_pass) returns the record of `speed.json`, with `engine`,
    `note` and `parameters`; `on_pass(n)` is called after each pass."""

    name: str
    num_examples: int
    measure: Callable[[Callable[[int], None]], dict[str, Any]]
