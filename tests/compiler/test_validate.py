"""JSON Schema errors in YAML's words: one message a mistake, at the right place, with what to type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from distilc.compiler.diagnostics.diagnostic import Diagnostic, Places, Reporter
from distilc.compiler.extensions.schema_files import FOLDER
from distilc.compiler.spec.merging import clean, spell_out
from distilc.compiler.spec.parse import flatten, parse
from distilc.compiler.spec.structure import load_schema, with_defaults
from distilc.compiler.spec.validate import TELLERS, mend, validate

SCHEMA = load_schema("experiment")
GOOD = """\
version: 1
name: x
task: summarization
teacher: facebook/bart-large-xsum
student: {decoder_layers: 3}
data: {train: {files: a}, validation: {files: b}, test: {files: c}}
"""


def judged(text: str) -> tuple[list[Diagnostic], object]:
    """The diagnostics about a spec, and its mended tree."""
    reader, places = Reporter(Places()), Places()
    tree = parse(text, "a.yaml", reader)
    assert tree is not None and not reader.diagnostics
    plain = flatten(clean(spell_out(tree, SCHEMA, SCHEMA.root), SCHEMA, SCHEMA.root), places)
    reporter = Reporter(places, file=Path("a.yaml"))
    refused = validate(plain, SCHEMA, reporter)
    return reporter.diagnostics, mend(plain, SCHEMA, refused)


def only(text: str) -> Diagnostic:
    (found,) = judged(GOOD + text)[0]
    return found


def test_a_good_spec() -> None:
    assert judged(GOOD)[0] == []


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "message", "hint"),
    [
        ("batsch: {examples: 1}", "E201", 7, 1, "unknown key 'batsch'", "did you mean `batch`?"),
        ("learning_rate: 1", "E201", 7, 1, "unknown key 'learning_rate'", "`learning_rate` belongs under `training`"),
        ("training: {seeds: [1]}", "E201", 7, 12, "unknown key 'seeds' in `training`",
         "`seeds` belongs at the top level"),
        ("training: {qqq: 1}", "E201", 7, 12, "unknown key 'qqq' in `training`",
         "known here: learning_rate, schedule, warmup, optimizer, gradient_clipping, dropout and method"),
        ("evaluation: {speed: {batchsize: 1}}", "E201", 7, 22, "unknown key 'batchsize' in `evaluation.speed`",
         "did you mean `batch_size`?"),
        ("stopping: {retention: {rouge-2: 9}}", "E201", 7, 24, "unknown key 'rouge-2' in `stopping.retention`",
         "did you mean `rouge2`?"),
        ("loss: {labels: {wieght: 1}}", "E201", 7, 17, "unknown key 'wieght' in `loss.labels`",
         "did you mean `weight`?"),
        ("stopping: 3", "E203", 7, 11, "`stopping` must be a mapping, it is 3",
         "for example `stopping: {max_epochs: 5, patience: 4}`"),
        ("seeds: 7", "E203", 7, 8, "`seeds` must be a list, it is 7", "write `seeds: [7]`"),
        ("stopping: {max_epochs: many}", "E203", 7, 24,
         "`stopping.max_epochs` must be a number, it is the text 'many'", ""),
        ("stopping: {patience: 2.5}", "E203", 7, 22, "`stopping.patience` must be a whole number, it is 2.5", ""),
        ('batch: {examples: "64"}', "E203", 7, 19, "`batch.examples` must be a whole number, it is the text '64'",
         "write it without quotes, digits only"),
        ("tracking: {experiment: 7}", "E203", 7, 24, "`tracking.experiment` must be text, it is 7", 'quote it: "7"'),
        ("evaluation: {generation: {early_stopping: yes}}", "E203", 7, 43,
         "`evaluation.generation.early_stopping` must be true or false, it is the text 'yes'", "write true"),
        ("training: {dropout: [1]}", "E203", 7, 21, "`training.dropout` must be text or a number, it is a list",
         "for example `dropout: inherit`"),
        ("training: {dropout: inherits}", "E204", 7, 21, "`training.dropout` must be inherit, it is 'inherits'",
         "did you mean inherit?"),
        ("precision: bf-16", "E204", 7, 12, "`precision` must be one of auto, fp32, bf16 or fp16, it is 'bf-16'",
         "did you mean bf16?"),
        ("phi: {decoder: block_ends}", "E204", 7, 16,
         "`phi.decoder` must be one of block-ends, copied-from or every-kth, it is 'block_ends'",
         "did you mean block-ends?"),
        ("phi: {decoder: [3, -1]}", "E205", 7, 20, "`phi.decoder[1]` must be at least 0, it is -1", ""),
        ("training: {learning_rate: 0}", "E205", 7, 27, "`training.learning_rate` must be more than 0, it is 0", ""),
        ("training: {learning_rate: -1e-3}", "E205", 7, 27,
         "`training.learning_rate` must be more than 0, it is -1e-3", ""),
        ("batch: {}", "E206", 7, 1, "`batch` needs exactly one of `examples` or `tokens`, it has none",
         "for example `batch: {examples: 64}`"),
        ("batch: {tokens: 1, examples: 1}", "E206", 7, 20,
         "`batch` needs exactly one of `examples` or `tokens`, it has `tokens` and `examples`", "keep one of them"),
        ("tracking: {experiment: ''}", "E208", 7, 24, "`tracking.experiment` is empty", ""),
        ("validation: {metrics: []}", "E209", 7, 23, "`validation.metrics` must have at least 1 entry, it has 0",
         "for example `metrics: [loss]`"),
        ("training: {optimizer: {betas: [0.9]}}", "E209", 7, 31,
         "`training.optimizer.betas` must have at least 2 entries, it has 1",
         "for example `betas: [0.9, 0.999]`"),
        ("loss: {}", "E209", 7, 7, "`loss` must have at least 1 entry, it has 0",
         "for example `loss: {labels: 1.0, logits: {weight: 0.8, temperature: 2.0}}`"),
        ("training: {gradient_clipping: 0}", "E205", 7, 31, "`training.gradient_clipping` must be more than 0, it is 0",
         "`gradient_clipping: null` means no clipping"),
        ("training: {gradient_clipping: off}", "E203", 7, 31,
         "`training.gradient_clipping` must be a number, it is the text 'off'",
         "`gradient_clipping: null` means no clipping"),
        ("precision: half", "E204", 7, 12, "`precision` must be one of auto, fp32, bf16 or fp16, it is 'half'",
         "did you mean fp16?"),
        ("batch: {tokens: 1, examples: many}", "E206", 7, 20,
         "`batch` needs exactly one of `examples` or `tokens`, it has `tokens` and `examples`", "keep one of them"),
        ("expect: {student: {bleuu: 2}}", "E208", 7, 20,
         "the key 'bleuu' must be a metric, or `TEST SET.METRIC`, or one of glue, validation_loss, speedup, "
         "million_parameters, gpu_hours, within and source", "did you mean `bleu`?"),
        ("expect: {student: {matched.acuracy: 2}}", "E208", 7, 20,
         "the key 'matched.acuracy' must be a metric, or `TEST SET.METRIC`, or one of glue, validation_loss, speedup, "
         "million_parameters, gpu_hours, within and source", "did you mean `matched.accuracy`?"),
        ("seeds: [1, 2, 1]", "E209", 7, 15, "`seeds` has 1 twice", "remove one of them"),
        ("variants: {'a b': {}}", "E208", 7, 12,
         "the key 'a b' must be a name of letters, digits, `.`, `_` and `-`", "rename it"),
    ],
)  # fmt: skip
def test_one_mistake(text: str, code: str, line: int, column: int, message: str, hint: str) -> None:
    found = only(text)
    assert (found.code, found.line, found.column) == (code, line, column)
    assert (found.message, found.hint) == (message, hint)


@pytest.mark.parametrize(
    ("old", "new", "code", "column", "words"),
    [
        ("teacher: facebook/bart-large-xsum", "teacher: {hub: a/b, path: ./c}", "E206", 21, "it has `hub` and `path`"),
        ("teacher: facebook/bart-large-xsum", "teacher: {revision: main}", "E207", 11, "`revision` goes with `hub`"),
        ("teacher: facebook/bart-large-xsum", "teacher: a b", "E208", 10, "must be a hub name such as"),
        ("teacher: facebook/bart-large-xsum", "teacher: 7", "E203", 10, "must be text or a mapping"),
        ("teacher: facebook/bart-large-xsum", "teacher:", "E203", 1, "it is empty"),
        ("teacher: facebook/bart-large-xsum", "teacher: {hub: a/b, revision: 123}", "E203", 31, "must be text, it is 123"),
        ("teacher: facebook/bart-large-xsum", "teacher: {hubb: a/b}", "E201", 11, "unknown key 'hubb' in `teacher`"),
        ("train: {files: a}", "train: {hub: x/y, splt: train}", "E201", 26, "unknown key 'splt' in `data.train`"),
        ("train: {files: a}", "train: [{files: a}, {limit: 3}]", "E206", 28, "`data.train[1]` needs exactly one of"),
        ("train: {files: a}", "train: {files: [a, 3]}", "E203", 27, "`data.train.files[1]` must be text, it is 3"),
        ("test: {files: c}", "test: {a: {files: c}, b: {limit: 3}}", "E206", 76, "`data.test.b` needs exactly one"),
        ("test: {files: c}", "test: {files: c, limit: 0}", "E205", 75, "`data.test.limit` must be at least 1"),
        ("teacher: facebook/bart-large-xsum", "teacher: {hub: x, architecture: {family: gpt2}}", "E206", 19,
         "it has `hub` and `architecture`"),
        ("version: 1", "version: 2", "E204", 10, "`version` must be 1, it is 2"),
        ("name: x", "name: -x", "E208", 7, "`name` must be made of letters"),
        ("student: {decoder_layers: 3}", "student: {init: {decoder: {layers: [0, 6, x]}}}", "E203", 43,
         "`student.init.decoder.layers[2]` must be a whole number"),
        ("student: {decoder_layers: 3}", "student: {init: {decoder: {layers: spacd}}}", "E204", 36,
         "one of spaced, first, last, middle or all"),
        ("student: {decoder_layers: 3}", "student: {init: {decoder: randm}}", "E204", 27, "must be random"),
    ],
)  # fmt: skip
def test_one_mistake_in_an_alternative(old: str, new: str, code: str, column: int, words: str) -> None:
    assert old in GOOD
    found = judged(GOOD.replace(old, new))[0]
    line = GOOD[: GOOD.index(old)].count("\n") + 1
    assert [(d.code, d.line, d.column) for d in found] == [(code, line, column)], found
    assert words in found[0].message


@pytest.mark.parametrize(
    ("freeze", "message", "hint"),
    [
        ("encoder", "`student.freeze` must be one of auto or none, or a list of encoder, embeddings and positions, it is "
         "'encoder'", "write `freeze: [encoder]`"),
        ("[decoder]", "`student.freeze[0]` must be one of encoder, embeddings or positions, it is 'decoder'", ""),
        ("[embedding]", "`student.freeze[0]` must be one of encoder, embeddings or positions, it is 'embedding'",
         "did you mean embeddings?"),
    ],
)  # fmt: skip
def test_words_that_are_not_misspelt_but_misplaced(freeze: str, message: str, hint: str) -> None:
    (found,) = judged(GOOD.replace("decoder_layers: 3", f"freeze: {freeze}"))[0]
    assert (found.message, found.hint) == (message, hint)


def test_missing_keys_are_all_named() -> None:
    found = judged("version: 1\nname: x\n")[0]
    assert [d.message for d in found] == [
        f"the key `{key}` is missing" for key in ("task", "teacher", "student", "data")
    ]
    assert found[0].hint == "for example `task: summarization`"


def test_a_misspelt_required_key_is_one_mistake() -> None:
    (found,) = judged(GOOD.replace("task:", "tsak:"))[0]
    assert (found.code, found.line, found.hint) == ("E201", 3, "did you mean `task`?")


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("targets: [{}]", "targets: [{own: 0.5}]"),
        ("targets: [{a: 0.5, original: 1}]", "targets: [{a: 0.5}, {original: 1}]"),
        ("targets: [3]", None),
        ("evaluation: {exports: [int8]}", "exports: [{compute_type: int8}]"),
        ("evaluation: {exports: [3]}", "exports: [{engine: ctranslate2, compute_type: int8}]"),
        ("phi: {decoder: [[3]]}", None),
        ("pseudo_labels: {a: x.jsonl}", "a: {file: x.jsonl}"),
        ("pseudo_labels: {a: x.txt}", "a: {file: x.txt}"),
        ("pseudo_labels: {a: teacher}", "a: {by: teacher}"),
        ("matrix: {exclude: [3], seeds: [[1]]}", "exclude: [{student.encoder_layers: 6, student.decoder_layers: 1}]"),
    ],
)
def test_what_a_hint_says_of_a_list_is_accepted_as_written(written: str, typed: str | None) -> None:
    found = only(written)
    hinted = re.search("`([^`]*)`", found.hint)
    assert (hinted and hinted.group(1)) == typed
    if typed is not None:
        key = typed.partition(":")[0]
        # In the place of the entry that was refused.
        before, _, after = written.partition(f"{key}:")
        rest = "}" * (after.count("}") - after.count("{"))
        assert judged(f"{GOOD}{before}{typed}{rest}")[0] == []


def test_what_a_hint_says_of_a_source_without_brackets_has_none() -> None:
    found = judged(GOOD.replace("train: {files: a}", "train: {limit: 3}"))[0]
    assert [d.hint for d in found] == ["for example `train: {files: [train.jsonl]}`"]


def keywords(fragment: object, names: bool = False) -> Iterator[str]:
    """Every keyword of JSON Schema below a fragment. `names`: its keys are names of a spec."""
    if isinstance(fragment, list):
        for below in fragment:
            yield from keywords(below)
    elif isinstance(fragment, dict):
        for key, below in fragment.items():
            if not names:
                yield key
            if names or key not in ("const", "default", "dependentRequired", "enum", "examples", "x-with"):
                yield from keywords(below, not names and key in ("properties", "$defs"))


SAYING_NOTHING = {"$schema", "$id", "$ref", "$defs", "title", "description", "default", "examples"}
HOLDING_OTHERS = {"properties", "items", "propertyNames", "if", "then", "else", "not", "allOf"}


@pytest.mark.parametrize("name", ["experiment", "site", "extension"])
def test_every_keyword_of_the_schemas_can_be_told(name: str) -> None:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    used = {word for word in keywords(schema) if not word.startswith("x-")} - SAYING_NOTHING - HOLDING_OTHERS
    assert len(used) > 5 and used <= set(TELLERS), used - set(TELLERS)


def test_the_mended_tree_fits_and_keeps_the_rest() -> None:
    text = GOOD.replace("name: x", "name: x y") + "batch: {tokens: 1, examples: 1}\ntraining: {schedule: z}\nfoo: 1\n"
    found, mended = judged(text)
    assert len(found) == 4
    assert isinstance(mended, dict)
    assert mended["task"] == "summarization" and "foo" not in mended and "batch" not in mended
    assert mended["name"] == "bart-xsum-12-3"  # the schema's example stands in
    filled = with_defaults(SCHEMA, SCHEMA.root, mended)
    assert filled["batch"] == {"examples": 64} and filled["training"]["schedule"] == "linear"
