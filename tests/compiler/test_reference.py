"""Where a model is looked for, in which order, and what is said of one that is not there."""

import json
from pathlib import Path

import pytest

from distilc.compiler.explain.explain import explain_json, explain_text
from distilc.compiler.resolve import hub, reference
from distilc.compiler.resolve.catalogue import CATALOGUE
from distilc.compiler.resolve.hub import HubError

REPOSITORY = "google/pegasus-xsum"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
REFERENCE = f"""
version: 1
name: small
task: summarization
teacher: {REPOSITORY}
student: {{decoder_layers: 4}}
data:
  train: {{builtin: bulletins}}
  validation: {{builtin: bulletins}}
  test: {{builtin: bulletins}}
  max_source_tokens: 512
"""
SMALL = {
    "model_type": "pegasus", "vocab_size": 60, "d_model": 16, "encoder_layers": 16, "decoder_layers": 16,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "max_position_embeddings": 512,
}  # fmt: skip
XSUM = 569_748_480


def write(folder: Path, config: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def cache(tmp_path: Path, config: dict) -> Path:
    repository = tmp_path / "hub" / "models--google--pegasus-xsum"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT, "utf-8")
    return write(repository / "snapshots" / COMMIT, config)


@pytest.fixture
def asked(monkeypatch, tmp_path) -> dict:
    """A hub that answers as the test says: {"commit": ..., "config": ...}, or an error."""
    answers: dict = {"questions": 0}

    def fetch_commit(kind, repository, revision):
        answers["questions"] += 1
        if isinstance(answers["commit"], HubError):
            raise answers["commit"]
        return answers["commit"]

    def fetch_config(repository, commit):
        if isinstance(answers["config"], HubError):
            raise answers["config"]
        return write(tmp_path / "fetched", answers["config"])

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(reference, "fetch_commit", fetch_commit)
    monkeypatch.setattr(reference, "fetch_config", fetch_config)
    return answers


def test_a_models_folder_comes_before_the_cache_and_the_cache_before_everything_else(compile_text, tmp_path, asked):
    cache(tmp_path, SMALL)
    of_cache = compile_text(text=REFERENCE, offline=False).stage("teacher")["settings"]
    assert (of_cache["kind"], of_cache["revision"]) == ("hub", COMMIT)
    assert of_cache["parameters"] < 1e6
    write(tmp_path / "models" / REPOSITORY, {**SMALL, "vocab_size": 61})
    of_folder = compile_text(text=REFERENCE, models=(tmp_path / "models",)).stage("teacher")["settings"]
    assert (of_folder["kind"], of_folder["revision"]) == ("folder", None)
    assert of_folder["parameters"] == of_cache["parameters"] + 16
    assert asked["questions"] == 0


def test_a_folder_without_weights_is_enough_for_a_plan_and_not_for_a_run(compile_text, tmp_path, asked):
    folder = write(tmp_path / "models" / REPOSITORY, SMALL)
    for file, codes in ((None, ["W575"]), ("model.safetensors.index.json", ["W575"]), ("model-00001.safetensors", []),
                        ("pytorch_model.bin", [])):  # fmt: skip
        if file is not None:
            (folder / file).touch()
        for fingerprints in (True, False):
            lowered = compile_text(text=REFERENCE, models=(tmp_path / "models",), fingerprints=fingerprints)
            assert lowered.codes == codes
            assert (lowered.plan is not None) is fingerprints
        if file is not None:
            (folder / file).unlink()
    snapshot = cache(tmp_path, SMALL)
    assert compile_text(text=REFERENCE).codes == ["W575"]
    assert compile_text(text=REFERENCE, offline=False).codes == []  # `run` fetches them
    (snapshot / "model.safetensors").touch()
    assert compile_text(text=REFERENCE).codes == []


def test_offline_a_well_known_model_has_its_shape_and_no_revision(compile_text):
    lowered = compile_text(text=REFERENCE)
    assert lowered.codes == []
    settings = lowered.stage("teacher")["settings"]
    assert (settings["kind"], settings["repository"], settings["revision"]) == ("hub", REPOSITORY, "unresolved")
    assert settings["parameters"] == lowered.plan["teacher"]["parameters"] == XSUM
    assert lowered.plan["copy"]["decoder"] == [0, 5, 10, 15]
    (run,) = explain_json([lowered.typed])["runs"]
    assert {stage["id"]: stage["key"] for stage in run["stages"]} == dict.fromkeys(
        (stage["id"] for stage in run["stages"]), "unresolved"
    )
    assert run["memory"]["train"]["total_gb"] > 1
    assert REPOSITORY in explain_text(lowered.typed)


def test_a_commit_that_the_spec_names_is_a_revision(compile_text):
    text = REFERENCE.replace(f"teacher: {REPOSITORY}", f"teacher: {{hub: {REPOSITORY}, revision: {COMMIT}}}")
    lowered = compile_text(text=text)
    assert lowered.stage("teacher")["settings"]["revision"] == COMMIT
    keys = [stage["key"] for stage in explain_json([lowered.typed])["runs"][0]["stages"]]
    assert "unresolved" not in keys


def test_online_the_hub_is_asked_first(compile_text, asked):
    asked |= {"commit": OTHER, "config": {**SMALL, "vocab_size": 99}}
    settings = compile_text(text=REFERENCE, offline=False).stage("teacher")["settings"]
    assert settings["revision"] == OTHER
    assert settings["parameters"] < 1e6


@pytest.mark.parametrize("silent", ["commit", "config"])
def test_a_hub_that_does_not_answer_leaves_what_is_known(compile_text, asked, silent):
    asked |= {"commit": OTHER, "config": SMALL, silent: HubError("no route to host", answered=False)}
    settings = compile_text(text=REFERENCE, offline=False).stage("teacher")["settings"]
    assert settings["revision"] == ("unresolved" if silent == "commit" else OTHER)
    assert settings["parameters"] == XSUM


def test_a_hub_that_says_no_is_believed(compile_text, asked):
    asked |= {"commit": HubError("no such revision")}
    lowered = compile_text(text=REFERENCE, offline=False)
    assert (lowered.plan, lowered.codes) == (None, ["E501"])
    assert "no such revision" in lowered.diagnostics[0].message


def test_a_quick_look_asks_nobody(compile_text, asked):
    assert compile_text(text=REFERENCE, offline=False, fingerprints=False).codes == []
    lowered = compile_text("student.decoder_layers=17", text=REFERENCE, offline=False, fingerprints=False)
    assert (lowered.codes, lowered.diagnostics[0].path) == (["E521"], "student.decoder_layers")
    assert asked["questions"] == 0


def test_a_model_that_nobody_knows(compile_text):
    text = REFERENCE.replace(REPOSITORY, "org/unheard-of")
    assert compile_text(text=text).codes == ["E501"]
    quick = compile_text(text=text, fingerprints=False)  # nobody is asked
    assert (quick.plan, quick.codes) == (None, ["W503"])


def test_the_catalogue_knows_no_task_that_the_family_cannot_do(compile_text):
    lowered = compile_text(text=REFERENCE.replace(REPOSITORY, "google-bert/bert-base-uncased"))
    assert lowered.codes == ["E531"]
    assert lowered.diagnostics[0].path == "teacher"  # as it was written: the short form of {hub: ...}


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (type("NotFound", (Exception,), {"response": type("R", (), {"status_code": 404})()})("gone"), True),
        (type("Broken", (Exception,), {"response": type("R", (), {"status_code": 502})()})("bad gateway"), False),
        (ConnectionError("no route to host"), False),
        (OSError("no network"), False),
    ],
)
def test_who_answered(error, answered):
    def question():
        raise error

    with pytest.raises(HubError) as caught:
        hub._asked(question)
    assert caught.value.answered is answered


def test_pegasus_xsum_is_in_the_catalogue_with_its_own_positions():
    assert CATALOGUE[REPOSITORY]["max_position_embeddings"] == 512


def test_a_checkpoint_that_says_no_length_writes_as_long_as_a_target(compile_text, tmp_path):
    """transformers would end its texts after 20 tokens. Of any other checkpoint the plans stay what they were."""
    folder = write(tmp_path / "models" / REPOSITORY, SMALL)
    text = REFERENCE + "  max_target_tokens: 48\npseudo_labels: {own: {by: teacher}}\ntargets: [own]\n"

    def defaults(*overrides: str) -> dict:
        plan = compile_text(*overrides, text=text, models=(tmp_path / "models",)).plan
        found = {}
        for stage in plan["stages"]:
            settings = stage["settings"]
            if stage["kind"] == "train":
                settings = settings["validation"]
            generation = settings.get("generation") or {}
            if "default_max_length" in generation:
                found[stage["id"]] = generation["default_max_length"]
        return found

    kinds = {"evaluate-teacher", "evaluate-student", "benchmark-teacher", "benchmark-student", "labels-own"}
    assert defaults() == dict.fromkeys(kinds, 48)
    assert defaults("validation.metrics=[loss, rouge2]") == dict.fromkeys({*kinds, "train"}, 48)
    said = "evaluation={generation: {max_length: 20}, teacher_generation: {max_length: 30}}"
    assert defaults(said) == {"labels-own": 48}
    (folder / "config.json").write_text(json.dumps({**SMALL, "task_specific_params": {"t": {"max_length": 64}}}))
    assert defaults() == {}
    (folder / "generation_config.json").write_text('{"num_beams": 4}')  # now config.json does not count
    assert defaults() == dict.fromkeys(kinds, 48)
    (folder / "generation_config.json").write_text('{"max_new_tokens": 64}')
    assert defaults() == {}
