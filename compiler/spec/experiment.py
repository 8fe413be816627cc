"""The typed, frozen form of one run: what the schema says, bound last.

In: a resolved tree (defaults filled in, variants applied). Out: `Experiment`. Nothing in here depends
on the machine, the network or the clock. Field names are the spec's keys; `tests/compiler/` holds
this file and `schema/experiment.schema.json` to each other in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..diagnostics.record import record
from ..extensions.terms import looks_at_teacher, needs_of, weights_of
from ..tasks.task import TASKS, TaskName, column_keys

Strategy = Literal["spaced", "first", "last", "middle", "all"]
Part = Literal["encoder", "embeddings", "positions"]
Kind = TypeVar("Kind")


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

    kind: Literal["bpe", "unigram"]
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
class StudentInit:
    """`embeddings` covers everything outside the layer stacks; a stack is an origin or random."""

    embeddings: Literal["teacher", "random"]
    encoder: LayerOrigin | Literal["random"]
    decoder: LayerOrigin | Literal["random"]


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
class Optimization:
    """The spec's `training` section. `dropout` None: the checkpoint's own stays (spec: `inherit`). `warmup` None: by
    the length of the training (spec: `auto`)."""

    learning_rate: float
    schedule: Literal["linear", "cosine", "constant", "inverse-sqrt"]
    warmup: Warmup | None
    optimizer: Optimizer
    gradient_clipping: float | None
    dropout: float | None


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
    divergence: Literal["forward-kl", "reverse-kl", "jsd", "skew-kl"]
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
    """A weight for each kind of attention."""

    encoder_self: float
    decoder_self: float
    decoder_cross: float


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
    """Who writes targets: a model (`by` None is the teacher), or a `file` made elsewhere. `max_source_tokens`
    None: as the student's data, as far as the model has positions. `prefix` None: the data's, for a model of the
    teacher's family. What a label must pass: `min_rouge2`, `min_bleu` and `max_repetition` in percent, length ratios
    in characters to the original target."""

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

    engine: Literal["ctranslate2"]
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
    """One run, no unknowns left. `name` is the run's, with variant, matrix point and seed in it.
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
    pseudo_labels: Mapping[str, Labeller]
    targets: tuple[str, ...]
    target_shares: Mapping[str, float]
    data: Data
    evaluation: Evaluation
    baselines: Mapping[str, Baseline]
    stages: Mapping[str, Mapping[str, Any]]
    expect: Mapping[Literal["teacher", "student"], Expectation]
    tracking: Tracking


# --- binding -------------------------------------------------------------------------------------

ORIGINAL = "original"  # the target that the data themselves have
STUDENT = "student"  # no model: the hub's old ones without an organisation have other names
EXPECTED: tuple[Literal["teacher", "student"], ...] = ("teacher", "student")


def bind_experiment(tree: Mapping[str, Any], label: str = "", variant: str | None = None) -> Experiment:
    """A tree that fits the schema, with its defaults filled in, as an `Experiment`. `label`: what the run is
    called beside the name of its spec.

    What depends on the task is decided here: the metrics, the monitor, the names of the columns. Raises
    TypeError when schema and dataclasses disagree, which is a mistake in distilc, not in a spec.
    """
    task = tree["task"]
    data = tree["data"]
    evaluation = tree["evaluation"]
    tracking = tree["tracking"]
    return Experiment(
        name=f"{tree['name']}-{label}" if label else tree["name"],
        variant=variant,
        seed=tree["seeds"][0],
        task=task,
        teacher=bind_teacher(tree["teacher"], task),
        student=bind_student(tree["student"]),
        phi_encoder=_choice_or_layers(tree["phi"]["encoder"]),
        phi_decoder=_choice_or_layers(tree["phi"]["decoder"]),
        training=bind_training(tree, task),
        pseudo_labels={name: bind_labeller(item) for name, item in tree.get("pseudo_labels", {}).items()},
        targets=tuple(name for item in tree["targets"] for name in ([item] if isinstance(item, str) else item)),
        target_shares={
            name: float(share) for item in tree["targets"] if not isinstance(item, str) for name, share in item.items()
        },
        data=bind_data(data, task),
        evaluation=Evaluation(
            metrics=tuple(evaluation.get("metrics", TASKS[task].measured)),
            generation=bind_generation(evaluation["generation"]),
            teacher_generation=bind_generation(evaluation["teacher_generation"]),
            limit=evaluation["limit"],
            speed=None if evaluation["speed"] is None else bind(Speed, evaluation["speed"]),
            exports=tuple(bind(Export, {"engine": "ctranslate2", **item}) for item in evaluation["exports"]),
            rouge=_one_of(Rouge, evaluation.get("rouge", {})),
            bleu=_one_of(Bleu, evaluation.get("bleu", {})),
        ),
        baselines={
            name: bind_baseline(item, next(iter(data["test"]))) for name, item in tree.get("baselines", {}).items()
        },
        stages=tree.get("stages", {}),
        expect={who: bind_expectation(tree["expect"][who]) for who in EXPECTED if who in tree.get("expect", {})},
        tracking=Tracking(experiment=tracking.get("experiment", tree["name"]), tags=dict(tracking["tags"])),
    )


def bind_teacher(tree: Mapping[str, Any], task: TaskName) -> Teacher:
    """The teacher: a reference, or an architecture with its tokenizer."""
    architecture, tokenizer, train = tree.get("architecture"), tree.get("tokenizer"), tree.get("train")
    return Teacher(
        reference=None if architecture is not None else bind_reference(tree),
        architecture=None if architecture is None else bind(Architecture, {"decoder_layers": None, **architecture}),
        tokenizer=None if tokenizer is None else bind(TokenizerTraining, tokenizer),
        seed=tree["seed"],
        train=None if train is None else bind_training(train, task),
    )


def bind_reference(tree: Mapping[str, Any]) -> ModelReference:
    """A reference to a model that exists."""
    return ModelReference(**{field.name: tree.get(field.name) for field in fields(ModelReference)})


DEPTHS_AND_WIDTHS = ("encoder_layers", "decoder_layers", "d_model", "heads", "ffn_dim")


def bind_student(tree: Mapping[str, Any]) -> Student:
    """The student's shape and origin."""

    def origin(stack: Any) -> LayerOrigin | Literal["random"]:
        if stack == "random":
            return "random"
        model = None if stack["from"] == "teacher" else bind_reference(stack["from"])
        return LayerOrigin(from_=model, layers=_choice_or_layers(stack["layers"]))

    init = tree["init"]
    freeze = tree["freeze"]
    return Student(
        **{name: tree.get(name) for name in ("family", *DEPTHS_AND_WIDTHS)},
        init=StudentInit(
            embeddings=init["embeddings"], encoder=origin(init["encoder"]), decoder=origin(init["decoder"])
        ),
        freeze=tuple(freeze) if isinstance(freeze, list) else freeze,
    )


def bind_training(tree: Mapping[str, Any], task: TaskName) -> Training:
    """The sections that say how a model is trained: of the spec, or of `teacher.train`."""
    training, validation, stopping = tree["training"], tree["validation"], tree["stopping"]
    metrics = tuple(validation["metrics"])
    best = TASKS[task].monitor
    return Training(
        batch=_one_of(Batch, tree["batch"]),
        precision=tree["precision"],
        optimization=Optimization(
            learning_rate=float(training["learning_rate"]),
            schedule=training["schedule"],
            warmup=None if training["warmup"] == "auto" else _one_of(Warmup, training["warmup"]),
            optimizer=bind(Optimizer, training["optimizer"]),
            gradient_clipping=_bound(float | None, training["gradient_clipping"]),
            dropout=None if training["dropout"] == "inherit" else float(training["dropout"]),
        ),
        stopping=bind(Stopping, {"monitor": best if best in metrics else "loss", **stopping}),
        validation=Validation(
            every=_one_of(Every, validation["every"]),
            limit=validation["limit"],
            metrics=metrics,
            generation=bind_generation(validation["generation"]),
        ),
        loss=bind_loss(tree["loss"], task),
    )


def bind_loss(tree: Mapping[str, Any], task: TaskName) -> Loss:
    """The terms that are on."""
    tree, schedules = _scheduled(tree)

    def term(name: str, kind: type[Kind]) -> Kind | None:
        found = tree.get(name)
        if found is None or not _is_on(name, found):
            return None
        if name == "logits":
            found = {**dict.fromkeys(LOGITS_OPTIONS), **found, "candidates": _candidates(found.get("candidates"))}
        return bind(kind, found)

    logits = term("logits", LogitsTerm)
    if logits is not None:
        if TASKS[task].has_masking and logits.positions is None:
            logits = replace(logits, positions="all")
        if logits.divergence == "jsd" and logits.beta is None:
            logits = replace(logits, beta=0.5)
        if logits.divergence == "skew-kl" and logits.alpha is None:
            logits = replace(logits, alpha=0.1)
    return Loss(
        labels=term("labels", LabelsTerm),
        logits=logits,
        hidden=term("hidden", HiddenTerm),
        attention=term("attention", AttentionTerm),
        cosine=_bound(float | None, tree.get("cosine") or None),
        embedding=_bound(float | None, tree.get("embedding") or None),
        own=_own_terms(tree),
        schedules=schedules,
    )


def _candidates(tree: str | Mapping[str, int] | None) -> Candidates | None:
    if tree is None or isinstance(tree, str):
        return None
    (name, number), *_ = tree.items()
    return Candidates(kind="top-k" if name == "top_k" else "sampled", number=number)


def _scheduled(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Schedule]]:
    """The loss with a number for each schedule, and the schedules. One that goes nowhere is its number."""
    schedules: dict[str, Schedule] = {}

    def number(value: Any, path: str) -> Any:
        if not is_schedule(value):
            return value
        end = value.get("end")
        schedule = Schedule(
            from_=float(value["from"]),
            to=float(value["to"]),
            shape=value["shape"],
            begin=_one_of(Moment, value["begin"]),
            end=None if end is None else _one_of(Moment, end),
        )
        if schedule.from_ != schedule.to:
            schedules[path] = schedule
        return max(schedule.from_, schedule.to)

    found: dict[str, Any] = {}
    for name, term in tree.items():
        if isinstance(term, Mapping) and not is_schedule(term):
            found[name] = {setting: number(value, f"{name}.{setting}") for setting, value in term.items()}
        else:
            found[name] = number(term, name)
    off = [path for path in schedules if not _is_on(name := path.partition(".")[0], found[name])]
    return found, {path: schedule for path, schedule in schedules.items() if path not in off}


def is_schedule(value: Any) -> bool:
    """Is this value of a loss one that changes?"""
    return isinstance(value, Mapping) and {"from", "to"} <= set(value)


def _is_on(name: str, term: Any) -> bool:
    """Has a term, spelled out, or a weight alone, a weight that is not 0? One whose package cannot be used is on,
    too: it is told elsewhere."""
    settings = term if isinstance(term, Mapping) else {"weight": term}
    return any(settings.get(weight, 1.0) for weight in weights_of(name))


def _own_terms(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The settings of the terms that have no field of their own."""
    typed = {field.name for field in fields(Loss)}
    others = {name: found if isinstance(found, Mapping) else {"weight": found} for name, found in tree.items()}
    return {name: settings for name, settings in others.items() if name not in typed and _is_on(name, settings)}


LOGITS_OPTIONS = ("beta", "alpha", "positions")  # of one divergence or task only: no default in the schema


def bind_labeller(tree: Mapping[str, Any]) -> Labeller:
    """A labeller: a model, or a file."""
    by = tree.get("by")
    columns, keep = tree.get("columns", {}), tree.get("keep", {})
    lengths = keep.get("length_ratio", {})
    return Labeller(
        by=None if by in ("teacher", None) else bind_reference(by),
        file=tree.get("file"),
        file_id=columns.get("id", "id"),
        file_text=columns.get("text", "text"),
        generation=bind_generation(tree.get("generation", {})),
        max_source_tokens=_bound(int | None, tree.get("max_source_tokens")),
        prefix=tree.get("prefix"),
        best_of=tree.get("best_of"),
        min_rouge2=_bound(float | None, keep.get("min_rouge2")),
        min_bleu=_bound(float | None, keep.get("min_bleu")),
        min_length_ratio=_bound(float | None, lengths.get("min")),
        max_length_ratio=_bound(float | None, lengths.get("max")),
        max_repetition=_bound(float | None, keep.get("max_repetition")),
    )


def bind_baseline(tree: Mapping[str, Any], first: str) -> Baseline:
    """A system of others. One file is of the `first` test set."""
    files, columns = tree["predictions"], tree.get("columns", {})
    return Baseline(
        predictions={first: files} if isinstance(files, str) else dict(files),
        by_test_set=not isinstance(files, str),
        id=columns.get("id"),
        text=columns.get("text"),
        million_parameters=_bound(float | None, tree.get("million_parameters")),
        examples_per_second=_bound(float | None, tree.get("examples_per_second")),
    )


def bind_generation(tree: Mapping[str, Any]) -> Generation:
    """How text is written. Where a section's defaults are not filled in, what is not said is None."""
    sampling = tree.get("sampling")
    drawn = None if sampling is None else bind(Sampling, {**SAMPLING, **sampling})
    return replace(_one_of(Generation, {**tree, "sampling": None}), sampling=drawn)


SAMPLING = {"top_k": None, "top_p": 1.0, "temperature": 1.0, "seed": 0}  # as the schema's defaults


def bind_expectation(tree: Mapping[str, Any]) -> Expectation:
    """Published scores."""
    rest = ("within", "source")
    return Expectation(
        scores={name: float(value) for name, value in tree.items() if name not in rest},
        within=_bound(float | None, tree.get("within")),
        source=tree.get("source"),
    )


def bind_data(tree: Mapping[str, Any], task: TaskName) -> Data:
    """The data. Columns are called as the spec's keys are, unless it says otherwise."""
    columns = tree["columns"]
    pairs = bool({*(TASKS[task].pair or ())} & set(columns))
    source, target = column_keys(task, paired=pairs)

    def sources(items: list[Any]) -> tuple[DataSource, ...]:
        return tuple(_one_of(DataSource, item) for item in items)

    return Data(
        train=sources(tree["train"]),
        validation=sources(tree["validation"]),
        test={name: sources(items) for name, items in tree["test"].items()},
        columns=Columns(
            source=columns.get(source, source),
            hypothesis=columns.get("hypothesis", "hypothesis") if pairs else None,
            target=columns.get(target, target),
            id=columns.get("id"),
        ),
        max_source_tokens=int(tree["max_source_tokens"]),
        max_target_tokens=int(tree["max_target_tokens"]),
        prefix=tree["prefix"],
        source_language=tree.get("source_language"),
        target_language=tree.get("target_language"),
        labels=tuple(tree["labels"]) if "labels" in tree else None,
        masking=bind(Masking, _masking(tree)) if TASKS[task].has_masking else None,
    )


def _masking(tree: Mapping[str, Any]) -> Any:
    """The section, or, where a spec has none, its defaults."""
    return tree.get("masking", {"share": 15, "masked": 80, "random": 10, "rare": 0.7})


def _choice_or_layers(value: Any) -> Any:
    return tuple(int(layer) for layer in value) if isinstance(value, list) else value


def _one_of(kind: type[Kind], tree: Mapping[str, Any]) -> Kind:
    """Bind a mapping in which only one of several keys stands: the others are None."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return bind(kind, {**dict.fromkeys(names), **tree})


def bind(kind: type[Kind], tree: Mapping[str, Any]) -> Kind:
    """A mapping as a dataclass: the same names, no more and no fewer, and values of the declared types."""
    hints = _hints(kind)  # type: ignore[arg-type]
    names = list(hints)
    if set(tree) != set(names):
        raise TypeError(f"{kind.__name__} has {sorted(names)}, the tree has {sorted(tree)}")
    return kind(**{name: _bound(hints[name], tree[name]) for name in names})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _bound(kind: Any, value: Any) -> Any:
    """`value` as `kind`; a whole number may be written 5.0, and any number may be a `float`."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kinds = [choice for choice in get_args(kind) if choice is not NoneType]
        return _bound(kinds[0], value)
    if origin is Literal:
        if value in get_args(kind):
            return value
    elif origin is tuple:
        item = get_args(kind)[0]
        if isinstance(value, list | tuple):
            return tuple(_bound(item, entry) for entry in value)
    elif origin is Mapping:
        if isinstance(value, Mapping):
            return {str(name): _bound(get_args(kind)[1], entry) for name, entry in value.items()}
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)  # the nearest one, where it has more digits
    elif kind is int and isinstance(value, int | float) and not isinstance(value, bool):
        if int(value) == value:
            return int(value)
    elif isinstance(kind, type) and isinstance(value, kind):
        return value
    raise TypeError(f"{value!r} is no {kind}")
