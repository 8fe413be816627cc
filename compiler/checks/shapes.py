"""Rules that hold a run to the shapes of its models: positions, vocabulary, stacks, layers."""

from __future__ import annotations

from ..diagnostics.diagnostic import Trail
from ..estimates.candidates import ID_BYTES, PROBABILITY_BYTES, common_vocabulary, exact_token_bytes, token_bytes
from ..extensions.terms import stacks_of, weight_stacks
from ..spec.ways import generations
from ..tasks.task import TASKS
from .context import ModelContext, WriterContext


def check_lengths(models: ModelContext) -> None:
    """Reports E513: sequences longer than the position table that reads them."""
    run, reporter, teacher = models.run, models.reporter, models.teacher.architecture
    limit = teacher.max_positions
    if limit is None:
        return
    lengths: list[tuple[Trail, int | None]] = [
        (("data", "max_source_tokens"), run.data.max_source_tokens),
        (("data", "max_target_tokens"), run.data.max_target_tokens if TASKS[run.task].writes_texts else None),
        (("validation", "generation", "max_length"), run.training.validation.generation.max_length),
        (("evaluation", "generation", "max_length"), run.evaluation.generation.max_length),
        (
            ("evaluation", "teacher_generation", "max_length"),
            run.evaluation.teacher_generation.max_length,
        ),
    ]
    for path, length in lengths:
        if length is not None and length > limit:
            reporter.error(
                "E513",
                path,
                f"{path[-1]} is {length}; the {teacher.family} teacher has positions for {limit} tokens",
                f"write {limit} or less",
            )


def check_label_lengths(labels: WriterContext) -> None:
    """Reports E513 for a labeller that would read or write more than its positions hold."""
    for name, writer in labels.writers.items():
        labeller, path, model = labels.run.pseudo_labels[name], ("pseudo_labels", name), writer.architecture
        limit = model.max_positions
        for where, length in (
            ((*path, "max_source_tokens"), labeller.max_source_tokens),
            ((*path, "generation", "max_length"), labeller.generation.max_length),
        ):
            if limit is not None and length is not None and length > limit:
                labels.reporter.error(
                    "E513",
                    where,
                    f"{where[-1]} is {length}; the {model.family} labeller has positions for {limit} tokens",
                    f"write {limit} or less",
                )


def check_beams(models: ModelContext) -> None:
    """Reports E575: more beams than tokens that a text can begin with. A student has its teacher's vocabulary; a
    labeller of its own has its own, and is not looked at."""
    run, reporter, teacher = models.run, models.reporter, models.teacher.architecture
    vocabulary = teacher.num_logits
    for path, generation in generations(run):
        other = path[0] == "pseudo_labels" and run.pseudo_labels[str(path[1])].by is not None
        beams = generation.beams
        if beams is not None and beams > vocabulary and not other and reporter.written((*path, "beams")):
            reporter.error(
                "E575",
                (*path, "beams"),
                f"{beams:,} beams, and the vocabulary of the {teacher.family} teacher has only {vocabulary:,} "
                "tokens",
                "use fewer; 1 to 10 are usual",
            )


def check_stacks(models: ModelContext) -> None:
    """Reports E527: a term of the loss that compares what the models do not have."""
    run, reporter, teacher = models.run, models.reporter, models.teacher.architecture
    if teacher.decoder_layers:
        return
    loss = run.training.loss
    for term, settings in loss.terms.items():
        stacks = weight_stacks(term)
        for name, stack in stacks.items():
            if stack == "decoder" and settings[name]:
                reporter.error(
                    "E527",
                    ("loss", term, name),
                    f"a {teacher.family} model has no decoder to compare",
                    f"write `{term}: {{{next(name for name in stacks if stacks[name] == 'encoder')}: ...}}`",
                    at="key",
                )


def check_encoder(models: ModelContext) -> None:
    """Reports W502: an encoder that has fewer layers than the teacher's and is frozen never learns to do
    without the others (arXiv 2010.13002, Table 6: those encoders were trained)."""
    run, reporter, teacher = models.run, models.reporter, models.teacher.architecture
    student = run.student
    layers = student.encoder_layers
    if isinstance(student.freeze, str) or "encoder" not in student.freeze or layers is None:
        return
    if layers < teacher.encoder_layers:
        reporter.warning(
            "W502",
            ("student", "freeze", student.freeze.index("encoder")),
            f"a frozen encoder with {layers} of {teacher.encoder_layers} layers cannot adapt to the missing ones",
            "write `freeze: auto`: a smaller encoder is then trained",
            because=[("student", "encoder_layers")],
        )


def check_reach(models: ModelContext) -> None:
    """Reports E528: no term of the loss reaches what is trained. A frozen encoder that is the teacher's own has
    nothing to learn, and before a decoder that is all that a term about the encoder looks at."""
    if models.student is None:
        return
    phi, loss = models.student.phi, models.run.training.loss
    if phi.get("encoder") is not None:
        return
    terms = loss.terms
    if terms and all(weight_stacks(name) and stacks_of(name, term) == {"encoder"} for name, term in terms.items()):
        models.reporter.error(
            "E528",
            ("loss",),
            "no term of the loss reaches what is trained: the encoder is the teacher's own, and frozen",
            "add a term about the decoder, such as `labels: 1.0`, or write `student: {freeze: none}`",
            at="key",
            because=[("student",)],
        )


def check_candidates(models: ModelContext) -> None:
    """Reports E595 (as many candidates as tokens), W595 (the exact states take less room)."""
    run, reporter, teacher = models.run, models.reporter, models.teacher.architecture
    if models.student is None:
        return
    student, precision = models.student.architecture, models.precision
    logits = run.training.loss.logits
    if logits is None or logits.candidates is None:
        return
    kind, number = logits.candidates.kind, logits.candidates.number
    path = ("loss", "logits", "candidates", "top_k" if kind == "top-k" else "sampled")
    vocabulary = common_vocabulary(teacher, student)
    if number >= vocabulary:
        reporter.error(
            "E595",
            path,
            f"`{path[-1]}` is {number:,}, and must be smaller than the vocabulary of {vocabulary:,} tokens",
            "use fewer candidates, or write `candidates: all`",
        )
        return
    each, exact = token_bytes(kind, number), exact_token_bytes(teacher, precision)
    if each >= exact:
        most = max(1, (exact - 1 - token_bytes(kind, 0)) // (ID_BYTES + PROBABILITY_BYTES))
        reporter.warning(
            "W595",
            path,
            f"{number:,} candidates take {each:,} bytes per token; the states that give all logits take {exact:,}",
            f"write `candidates: all`, or at most {most:,}",
        )
