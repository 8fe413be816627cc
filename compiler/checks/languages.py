"""Rules about languages: what a model has to be told, and what means nothing to it."""

from __future__ import annotations

from ..diagnostics.diagnostic import Reporter, Trail, listed, quoted
from ..resolve.languages import Languages
from ..resolve.reference import ResolvedModel
from ..resolve.scoring import language_decides
from .context import ModelContext

MOST_NAMES = 8  # of languages that a message lists


def check_languages(models: ModelContext) -> None:
    """Of the teacher and of other models that write labels. Reports E515 (mBART is not told a language), E404 (a
    language that nothing depends on), E545 (one that a model has no token for), W515 (a model of several languages that
    is not told which)."""
    run, reporter = models.run, models.reporter
    layout, languages = models.teacher.architecture.layout, models.teacher.languages
    data = run.data
    given = {name: getattr(data, name) for name in ("source_language", "target_language")}
    asked: dict[Trail, ResolvedModel] = {("teacher",): models.teacher}
    for name, labels in models.labels.items():
        if labels.model is not None:
            asked["pseudo_labels", name, "by"] = labels.model
    with_codes = [path for path, model in asked.items() if model.languages.kind == "codes"]
    for name, language in given.items():
        if with_codes and language is None:
            family = asked[with_codes[0]].architecture.layout
            reporter.error(
                "E515",
                ("data", name),
                f"{family} marks every sequence with its language: data.{name} is missing",
                f"write for example `{name}: en_XX`",
                because=with_codes[:1],
            )
        for path, model in asked.items():
            if path in with_codes or name == "target_language":
                _check_known(language, ("data", name), path, model.languages, reporter)
    if languages.kind == "codes":
        return
    target, others = data.target_language, [model.languages.kind for path, model in asked.items() if len(path) > 1]
    if languages.known is not None and len(languages.known) > 1 and target is None and ">>" not in data.prefix:
        reporter.warning(
            "W515",
            ("teacher",),
            f"the model writes {len(languages.known)} languages, and `data.target_language` is not set: each source "
            "must begin with the token of one",
            f"write for example `data: {{target_language: {languages.known[0]}}}`",
        )
    for name, language in given.items():
        used = "codes" in others
        if name == "target_language":
            used |= "tokens" in (languages.kind, *others) or language_decides(run)
        if language is None or used:
            continue
        what = "no metric depends on it" if name == "target_language" else "nothing else uses it"
        reporter.error(
            "E404",
            ("data", name),
            f"`data.{name}` has no effect on this {layout} model: its tokenizer has no tokens of languages, and {what}",
            "remove it; a text in front of each source is set by `data.prefix`",
            at="key",
            because=[("teacher",)],
        )


def _check_known(language: str | None, path: Trail, model: Trail, languages: Languages, reporter: Reporter) -> None:
    """Has a model of several languages a token for this one?"""
    known = languages.known
    if not known or language is None or language in known:
        return
    near = languages.near(language)
    few = listed(known[:MOST_NAMES], "and") + (" ..." if len(known) > MOST_NAMES else "")
    reporter.error(
        "E545",
        path,
        f"the model has no token for the language {quoted(language)}",
        f"did you mean {near}?" if near else f"it has tokens for {few}",
        because=[model],
    )
