"""A run lowered: which stages, with which settings and keys, and what cannot be."""

import json
from pathlib import Path

import pytest

from distilc.compiler.resolve.data_sources import BUILTIN_VERSIONS
from distilc.runtime.data import bulletins

BART = {
    "model_type": "bart", "vocab_size": 60, "d_model": 16, "encoder_layers": 4, "decoder_layers": 6,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "max_position_embeddings": 512,
}  # fmt: skip
T5 = {"model_type": "t5", "vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 4, "num_heads": 2,
      "num_decoder_layers": 4, "decoder_start_token_id": 0}  # fmt: skip
REFERENCE = """
version: 1
name: small
task: summarization
teacher: {path: ./model}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins}
  validation: {builtin: bulletins}
  test: {builtin: bulletins}
"""


def model_folder(path: Path, config: dict, weights: bytes = b"weights") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    (path / "model.safetensors").write_bytes(weights)
    (path / "tokenizer.json").write_text("{}", "utf-8")
    return path


def keys(lowered) -> dict[str, str]:
    return {stage["id"]: stage["key"] for stage in lowered.plan["stages"]}


def test_a_warm_up_is_held_against_the_steps_of_the_data(compile_text):
    """100 rows, 64 a step, 5 epochs: 10 steps."""

    def found(*overrides):
        return [(d.path, d.message) for d in compile_text(*overrides).diagnostics if d.code == "W403"]

    message = "the warm-up takes 10 steps and the training ends after 10: 100 rows, 64 examples a step"
    assert found("training.warmup.steps=10") == [("training.warmup.steps", message)]
    assert found("training.warmup.steps=9") == []
    assert found("training.warmup={ratio: 0.9}") == []
    (teacher,) = found("teacher.train={training: {warmup: {steps: 20}}, stopping: {max_epochs: 8}}")
    assert teacher[0] == "teacher.train.training.warmup.steps" and "ends after 16" in teacher[1]


def test_check_alone_holds_a_warm_up_against_rows_that_need_no_look(compile_text):
    overrides = ("training.warmup.steps=10", "teacher.train={training: {warmup: {steps: 20}}, stopping: {max_epochs: 8}}")
    lowered = compile_text(*overrides, fingerprints=False)
    assert lowered.plan is None
    paths = [d.path for d in lowered.diagnostics if d.code == "W403"]
    assert sorted(paths) == ["teacher.train.training.warmup.steps", "training.warmup.steps"]


@pytest.mark.parametrize(
    ("overrides", "student", "teacher"),
    [
        ((), (None, 0.1), (None, 0.1)),  # 100 rows, 64 a step, 5 epochs: 10 steps
        (("stopping={max_steps: 8}",), (None, 0.1), (None, 0.1)),
        (("stopping={max_epochs: null, max_steps: 5000}",), (500, None), (None, 0.1)),
        (("stopping={max_epochs: 2500}",), (500, None), (None, 0.1)),  # 5,000
        (("stopping={max_epochs: 2499}",), (None, 0.1), (None, 0.1)),
        (("stopping={max_epochs: null, patience: 3}",), (500, None), (None, 0.1)),
        (("stopping={max_epochs: null, max_hours: 3}",), (500, None), (None, 0.1)),
        (("data.train={hub: somebody/something, revision: 0123456789abcdef0123456789abcdef01234567}",), (500, None), (500, None)),
        (("training.warmup={steps: 500}",), (500, None), (None, 0.1)),
    ],
)
def test_a_warm_up_that_nobody_wrote_is_at_most_a_tenth(compile_text, overrides, student, teacher):
    """500 steps where the training has 5,000 or more, or nobody knows: as it always was, with the same key."""
    lowered = compile_text(*overrides)
    for id, expected in (("train", student), ("teacher-train", teacher)):
        settings = lowered.stage(id)["settings"]
        assert (settings["warmup_steps"], settings["warmup_ratio"]) == expected, id
    assert "W403" not in lowered.codes or "training.warmup={steps: 500}" in overrides


def test_the_default_warm_up_does_not_depend_on_what_is_in_the_store(compile_text, tmp_path):
    key = compile_text().stage("train")["key"]
    data = compile_text().stage("data")["key"]
    folder = tmp_path / "workspace" / "store" / data
    folder.mkdir(parents=True)
    counted = {"examples": 10**6, "source_tokens": 10**7, "target_tokens": 10**7}
    (folder / "manifest.json").write_text(json.dumps({"summary": {"train": counted}}), "utf-8")
    assert compile_text().stage("train")["key"] == key


def test_beams_are_among_the_tokens(compile_text):
    wide = ("validation.generation={beams: 501}", "evaluation.teacher_generation={beams: 500}")
    (found,) = compile_text(*wide).diagnostics
    assert (found.code, found.path) == ("E575", "validation.generation.beams")


@pytest.mark.parametrize("typed", [".", "./", "../{name}"])
def test_a_model_folder_that_is_the_current_one_is_called_by_its_name(compile_text, tmp_path, typed):
    (found,) = compile_text(text=REFERENCE.replace("./model", typed.format(name=tmp_path.name))).diagnostics
    assert found.code == "E502"
    assert found.message == f"{tmp_path} is not a model folder: config.json: No such file or directory"


# --- stages --------------------------------------------------------------------------------------


def test_stages_of_a_teacher_from_scratch(compile_text):
    plan = compile_text().plan
    teacher = {"model": "teacher-train", "data": "data", "converted": "convert-teacher-train"}
    student = {"model": "train", "data": "data", "converted": "convert-train"}
    assert [(stage["id"], stage["kind"], stage["needs"]) for stage in plan["stages"]] == [
        ("tokenizer", "tokenizer", {}),
        ("teacher", "teacher", {"tokenizer": "tokenizer"}),
        ("data", "data", {"tokenizer": "tokenizer"}),
        ("teacher-train", "train", {"model": "teacher", "data": "data"}),
        ("student", "student", {"teacher": "teacher-train"}),
        ("train", "train", {"model": "student", "data": "data"}),
        ("convert-teacher-train", "convert", {"model": "teacher-train"}),
        ("evaluate-teacher", "evaluate", teacher),
        ("convert-train", "convert", {"model": "train"}),
        ("evaluate-student", "evaluate", student),
        ("benchmark-teacher", "benchmark", teacher),
        ("benchmark-student", "benchmark", student),
    ]


def test_stages_of_an_existing_teacher(compile_text, tmp_path):
    model_folder(tmp_path / "model", BART)
    plan = compile_text("evaluation.speed=null", text=REFERENCE).plan
    assert [(stage["id"], stage["needs"]) for stage in plan["stages"]] == [
        ("teacher", {}),
        ("data", {"tokenizer": "teacher"}),
        ("student", {"teacher": "teacher"}),
        ("train", {"model": "student", "data": "data"}),
        ("convert-teacher", {"model": "teacher"}),
        ("evaluate-teacher", {"model": "teacher", "data": "data", "converted": "convert-teacher"}),
        ("convert-train", {"model": "train"}),
        ("evaluate-student", {"model": "train", "data": "data", "converted": "convert-train"}),
    ]


def test_retention_evaluates_the_teacher_on_validation(compile_text):
    lowered = compile_text(
        "stopping.retention={rouge2: 99}",
        "validation={metrics: [loss, rouge2], limit: 7, generation: {beams: 3, max_length: 40}}",
    )
    stage = lowered.stage("evaluate-teacher-validation")
    assert lowered.stage("train")["needs"]["reference"] == "evaluate-teacher-validation"
    assert stage["needs"] == {"model": "teacher-train", "data": "data"}
    settings = stage["settings"]
    assert (settings["split"], settings["limit"], settings["metrics"]) == ("validation", 7, ["rouge2"])
    assert (settings["generation"]["beams"], settings["generation"]["max_length"]) == (3, 40)
    ids = [stage["id"] for stage in lowered.plan["stages"]]
    assert ids.index("evaluate-teacher-validation") == ids.index("teacher-train") + 1


def test_layers_of_another_model(compile_text, tmp_path):
    model_folder(tmp_path / "model", BART)
    other = model_folder(tmp_path / "other", {**BART, "decoder_layers": 12, "vocab_size": 70}, b"other")
    lowered = compile_text("student.init.decoder={from: {path: ./other}, layers: spaced}", text=REFERENCE)
    origin = lowered.stage("decoder-origin")
    assert (origin["kind"], origin["needs"]) == ("teacher", {})
    assert origin["execution"]["locations"] == {origin["settings"]["fingerprint"]: str(other)}
    assert lowered.stage("student")["needs"] == {"teacher": "teacher", "decoder_origin": "decoder-origin"}
    decoder = lowered.stage("student")["settings"]["decoder"]
    assert decoder == {"origin": "decoder_origin", "layers": [0, 6]}  # of 12 layers, not of the teacher's 6
    assert lowered.plan["phi"]["decoder"] == [3, 5]  # of the teacher's 6


# --- settings ------------------------------------------------------------------------------------


def test_the_student_is_a_copy_with_a_frozen_encoder(compile_text):
    lowered = compile_text()
    student = lowered.stage("student")["settings"]
    assert student["encoder"] == {"origin": "teacher", "layers": [0, 1, 2]}
    assert student["decoder"] == {"origin": "teacher", "layers": [0, 5]}
    assert student["config"] == {"encoder_layers": 3, "decoder_layers": 2}
    assert student["seed"] is None
    assert lowered.stage("train")["settings"]["freeze"] == ["encoder", "embeddings", "positions"]
    assert lowered.stage("teacher-train")["settings"]["freeze"] == []
    assert lowered.plan["copy"] == {"encoder": [0, 1, 2], "decoder": [0, 5]}
    assert lowered.plan["phi"] == {"encoder": None, "decoder": [3, 5]}
    facts = lowered.plan["student"]
    assert facts["trainable_parameters"] == lowered.stage("train")["settings"]["trainable_parameters"]
    assert facts["trainable_parameters"] == 2 * (2 * (4 * (64 * 64 + 64) + 128) + 2 * 64 * 128 + 128 + 64 + 128)


@pytest.mark.parametrize(
    ("override", "freeze"),
    [
        ("student.encoder_layers=2", ["embeddings", "positions"]),
        ("student.init.encoder=random", ["embeddings", "positions"]),
        ("student.init.encoder={layers: [0, 2, 1]}", ["embeddings", "positions"]),
        ("student.init.encoder={layers: all}", ["encoder", "embeddings", "positions"]),
        ("student.init.embeddings=random", []),
        ("student.freeze=none", []),
        ("student.freeze=[positions, encoder]", ["encoder", "positions"]),
    ],
)
def test_freeze(compile_text, override, freeze):
    assert compile_text(override).stage("train")["settings"]["freeze"] == freeze


def test_t5_has_no_positions_to_freeze(compile_text, tmp_path):
    model_folder(tmp_path / "model", T5)
    lowered = compile_text(text=REFERENCE)
    assert lowered.stage("train")["settings"]["freeze"] == ["encoder", "embeddings"]
    assert lowered.stage("student")["settings"]["config"] == {"num_layers": 4, "num_decoder_layers": 2}


@pytest.mark.parametrize(
    ("overrides", "seed"),
    [((), None), (("student.init.decoder=random",), 42), (("student.init.embeddings=random",), 42)],
)
def test_the_student_has_a_seed_only_for_what_is_random(compile_text, overrides, seed):
    assert compile_text(*overrides).stage("student")["settings"]["seed"] == seed


def test_seeds_of_runs_share_one_teacher(compile_text):
    one, other = compile_text(), compile_text("seeds=[7]")
    assert other.stage("train")["settings"]["seed"] == 7
    assert other.stage("teacher-train")["settings"]["seed"] == 42
    changed = {id for id, key in keys(one).items() if keys(other)[id] != key}
    assert changed == {"train", "convert-train", "evaluate-student", "benchmark-student"}


def test_a_narrower_student(compile_text):
    lowered = compile_text(
        "student={decoder_layers: 2, d_model: 32, heads: 2, ffn_dim: 48, "
        "init: {embeddings: random, encoder: random, decoder: random}}"
    )
    settings = lowered.stage("student")["settings"]
    assert settings["config"] == {
        "encoder_layers": 3, "decoder_layers": 2, "d_model": 32, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    }  # fmt: skip
    assert settings["encoder"] == {"origin": None, "layers": None}
    assert lowered.plan["copy"] == {"encoder": None, "decoder": None}
    assert lowered.stage("train")["settings"]["freeze"] == []


@pytest.mark.parametrize(
    ("precision", "site", "resolved"),
    [
        ("auto", {}, "fp32"),
        ("auto", {"device": "cuda", "device_name": "NVIDIA H200"}, "bf16"),
        ("auto", {"device": "cuda", "device_name": "Tesla V100-SXM2-32GB"}, "fp32"),
        ("bf16", {}, "bf16"),
        ("fp16", {"device": "cuda", "device_name": "Tesla T4"}, "fp16"),
    ],
)
def test_precision(compile_text, precision, site, resolved):
    lowered = compile_text(f"precision={precision}", **site)
    assert lowered.stage("train")["settings"]["precision"] == resolved
    assert lowered.stage("evaluate-teacher")["settings"]["precision"] == resolved
    assert lowered.stage("train")["execution"]["deepspeed"][resolved if resolved != "fp32" else "bf16"] == {
        "enabled": resolved != "fp32"
    }


def test_each_model_generates_with_its_own_settings(compile_text):
    lowered = compile_text("evaluation.generation={beams: 2}", "evaluation.teacher_generation={beams: 5}")
    for kind in ("evaluate", "benchmark"):
        assert lowered.stage(f"{kind}-student")["settings"]["generation"]["beams"] == 2
        assert lowered.stage(f"{kind}-teacher")["settings"]["generation"]["beams"] == 5


def test_a_teacher_without_a_checkpoint_is_searched_as_the_student_is(compile_text, tmp_path):
    model_folder(tmp_path / "model", BART)

    def beams(lowered):
        return [lowered.stage(f"{kind}-teacher")["settings"]["generation"]["beams"] for kind in ("evaluate", "benchmark")]

    assert beams(compile_text("evaluation.generation={beams: 2}")) == [2, 2]
    assert beams(compile_text("evaluation={generation: {beams: 2}, teacher_generation: {max_length: 9}}")) == [None, None]
    assert beams(compile_text("evaluation.generation={beams: 2}", text=REFERENCE)) == [None, None]  # its checkpoint's


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "site",
    [
        {"workspace": Path("/elsewhere")},
        {"per_node": 4, "nodes": 2},
        {"zero": 2},
        {"micro_batch_tokens": 123},
        {"save_minutes": 1.0},
        {"tracking_uri": "http://tracker"},
        {"memory_gb": None},
        {"shared_stores": (Path("/store"),)},
        {"offline": False},
    ],
)
def test_keys_do_not_depend_on_the_site(compile_text, site):
    one, other = compile_text(), compile_text(**site)
    assert keys(one) == keys(other)
    assert one.plan["key"] == other.plan["key"]


@pytest.mark.parametrize("override", ["name=other", "tracking={experiment: e, tags: {a: b}}"])
def test_keys_do_not_depend_on_names(compile_text, override):
    assert keys(compile_text()) == keys(compile_text(override))


def test_a_benchmark_depends_on_the_device_and_nothing_else_does(compile_text):
    one, other = compile_text(), compile_text(device_name="another CPU")
    changed = {id for id, key in keys(one).items() if keys(other)[id] != key}
    assert changed == {"benchmark-teacher", "benchmark-student"}


ALL = {
    "tokenizer", "teacher", "data", "teacher-train", "student", "train", "convert-teacher-train", "evaluate-teacher",
    "convert-train", "evaluate-student", "benchmark-teacher", "benchmark-student",
}  # fmt: skip
STUDENT = {"student", "train", "convert-train", "evaluate-student", "benchmark-student"}
TRAIN = STUDENT - {"student"}
SEARCHED = {"evaluate-teacher", "evaluate-student", "benchmark-teacher", "benchmark-student"}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("teacher.tokenizer.vocab_size=600", ALL),
        ("teacher.architecture.dropout=0.2", ALL - {"tokenizer", "data"}),
        ("teacher.seed=1", ALL - {"tokenizer", "data"}),
        ("teacher.train.batch={examples: 8}", ALL - {"tokenizer", "teacher", "data"}),
        ("teacher.train.loss={labels: {smoothing: 0.1}}", ALL - {"tokenizer", "teacher", "data"}),
        ("data.train={builtin: bulletins, limit: 50}", ALL),
        ("data.test={builtin: bulletins, limit: 10}", ALL - {"tokenizer", "teacher"}),
        ("data.max_source_tokens=100", ALL - {"tokenizer", "teacher"}),
        ("data.prefix='x: '", ALL - {"tokenizer", "teacher"}),
        ("student.decoder_layers=3", STUDENT),
        ("student.init.decoder={layers: first}", STUDENT),
        ("student.freeze=none", TRAIN),
        ("batch={tokens: 4096}", TRAIN),
        ("precision=bf16", TRAIN | {"convert-teacher-train", "evaluate-teacher", "benchmark-teacher"}),
        ("training.learning_rate=0.01", TRAIN),
        ("training.schedule=cosine", TRAIN),
        ("training.warmup={ratio: 0.2}", TRAIN),
        ("training.optimizer.weight_decay=0.01", TRAIN),
        ("training.gradient_clipping=null", TRAIN),
        ("training.dropout=0.0", TRAIN),
        ("stopping.max_steps=10", TRAIN),
        ("stopping.patience=3", TRAIN),
        ("validation.every={steps: 5}", TRAIN),
        ("validation.limit=5", TRAIN),
        ("loss={labels: {smoothing: 0.1}}", TRAIN),
        ("evaluation.limit=5", {"evaluate-teacher", "evaluate-student"}),
        ("evaluation.metrics=[rougeL]", {"evaluate-teacher", "evaluate-student"}),
        ("evaluation.generation={beams: 7}", SEARCHED),  # a teacher from scratch is searched as the student is
        ("evaluation.teacher_generation={beams: 7}", {"evaluate-teacher", "benchmark-teacher"}),
        ("evaluation.speed={repeats: 9}", {"benchmark-teacher", "benchmark-student"}),
    ],
)
def test_a_setting_changes_the_keys_of_what_depends_on_it(compile_text, override, changed):
    before, after = keys(compile_text()), keys(compile_text(override))
    assert {id for id, key in before.items() if after.get(id) != key} == changed
    without_engine = {"convert-teacher-train", "convert-train"}  # ctranslate2 has no bf16 on a CPU
    assert before.keys() - after.keys() == (without_engine if override == "precision=bf16" else set())


def test_files_count_by_content_not_by_place(compile_text, tmp_path):
    def compiled(*overrides):
        return compile_text(
            *overrides, text=REFERENCE.replace("train: {builtin: bulletins}", "train: {files: [a.jsonl, b.jsonl]}")
        )

    model_folder(tmp_path / "model", BART)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"source": "{name}", "target": "{name}"}}\n')
    before = compiled()
    (source,) = before.stage("data")["settings"]["train"]
    assert before.stage("data")["execution"]["locations"] == {
        sha: str(tmp_path / name) for sha, name in zip(source["fingerprints"], ("a.jsonl", "b.jsonl"), strict=True)
    }
    (tmp_path / "b.jsonl").rename(tmp_path / "moved.jsonl")
    assert keys(compiled("data.train[0].files[1]=moved.jsonl")) == keys(before)
    assert keys(compiled("data.train[0].files[1]=c.jsonl"))["data"] != keys(before)["data"]
    assert keys(compiled("data.train={files: [moved.jsonl, a.jsonl]}"))["data"] != keys(before)["data"]


def test_a_model_counts_by_content_not_by_name(compile_text, tmp_path):
    model_folder(tmp_path / "model", BART)
    model_folder(tmp_path / "copy", BART)
    model_folder(tmp_path / "tuned", BART, b"other weights")
    before = compile_text(text=REFERENCE)
    assert before.plan["teacher"]["model"] == "model"
    copied = compile_text("teacher={path: ./copy}", text=REFERENCE)
    assert keys(copied) == keys(before)
    assert keys(compile_text("teacher={path: ./tuned}", text=REFERENCE))["teacher"] != keys(before)["teacher"]


# --- hub -----------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_model_of_the_hubs_cache(compile_text, tmp_path):
    repository = tmp_path / "hub" / "models--org--name"
    folder = model_folder(repository / "snapshots" / COMMIT, BART)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, "utf-8")
    for teacher in ("org/name", "{hub: org/name, revision: " + COMMIT + "}"):
        stage = compile_text(f"teacher={teacher}", text=REFERENCE).stage("teacher")
        assert (stage["settings"]["kind"], stage["settings"]["revision"]) == ("hub", COMMIT)
        assert stage["execution"]["locations"] == {f"org/name@{COMMIT}": str(folder)}


def test_a_folder_laid_out_as_on_the_hub_is_looked_in_first(compile_text, tmp_path):
    folder = model_folder(tmp_path / "models" / "org" / "name", BART)
    (folder / "model.safetensors").unlink()  # config.json alone is enough to compile
    lowered = compile_text("teacher=org/name", text=REFERENCE, models=(tmp_path / "models",))
    stage = lowered.stage("teacher")
    assert lowered.plan["teacher"]["model"] == "org/name"
    assert stage["settings"]["kind"] == "folder"
    assert stage["execution"]["locations"] == {stage["settings"]["fingerprint"]: str(folder)}


def test_a_hub_model_that_is_nowhere(compile_text):
    lowered = compile_text("teacher=org/name", text=REFERENCE)
    assert (lowered.plan, lowered.codes) == (None, ["E501"])
    quick = compile_text("teacher=org/name", text=REFERENCE, fingerprints=False)
    assert (quick.plan, quick.codes) == (None, ["W503"])


def test_a_hub_data_set_that_is_nowhere_is_unresolved(compile_text, tmp_path):
    override = "data.train={hub: org/rows, config: en, split: part}"
    (source,) = compile_text(override).stage("data")["settings"]["train"]
    assert source == {
        "kind": "hub", "name": "org/rows", "config": "en", "revision": "unresolved", "split": "part",
        "fingerprints": [], "limit": None,
    }  # fmt: skip
    refs = tmp_path / "hub" / "datasets--org--rows" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT, "utf-8")
    assert compile_text(override).stage("data")["settings"]["train"][0]["revision"] == COMMIT


def test_an_untied_t5_with_a_tied_checkpoint_has_no_head_of_its_own(compile_text, tmp_path):
    def safetensors(*names):
        header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
        return len(header).to_bytes(8, "little") + header

    untied = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    model_folder(tmp_path / "apart", untied, safetensors("shared.weight", "lm_head.weight"))
    model_folder(tmp_path / "tied", untied, safetensors("shared.weight"))
    apart = compile_text("teacher={path: ./apart}", text=REFERENCE).plan["teacher"]["parameters"]
    tied = compile_text("teacher={path: ./tied}", text=REFERENCE).plan["teacher"]["parameters"]
    assert apart - tied == 60 * 16


def test_built_in_corpora_are_the_runtimes():
    assert BUILTIN_VERSIONS == {"bulletins": bulletins.VERSION}


# --- execution -----------------------------------------------------------------------------------


def test_execution_of_each_kind(compile_text):
    for stage in compile_text(save_minutes=3.0).plan["stages"]:
        execution = stage["execution"]
        assert (execution["deepspeed"] is not None) == (stage["kind"] == "train")
        assert execution["save_minutes"] == (3.0 if stage["kind"] == "train" else None)
        assert execution["micro_batch_tokens"] == (4096 if stage["kind"] in ("train", "evaluate") else None)


def test_the_site_decides_zero_and_micro_batch(compile_text):
    lowered = compile_text(zero=3, micro_batch_tokens=777)
    assert lowered.stage("train")["execution"]["deepspeed"]["zero_optimization"]["stage"] == 3
    assert lowered.stage("train")["execution"]["micro_batch_tokens"] == 777


def test_a_sharded_teacher_and_checkpointing_are_execution(compile_text):
    site = {"device": "cuda", "device_name": "NVIDIA H200", "memory_gb": 141.0, "per_node": 2}
    plain = compile_text("loss.logits=1", **site).stage("train")
    saving = compile_text("loss.logits=1", shard_teacher=True, checkpointing=True, **site).stage("train")
    assert not {"teacher_deepspeed", "checkpointing"} & set(plain["execution"])
    assert saving["key"] == plain["key"] and saving["settings"] == plain["settings"]
    assert saving["execution"]["checkpointing"] is True
    teacher = saving["execution"]["teacher_deepspeed"]
    assert teacher["zero_optimization"]["stage"] == 3 and "offload_optimizer" not in teacher["zero_optimization"]
    assert teacher["bf16"] == saving["execution"]["deepspeed"]["bf16"]
    host = compile_text("loss.logits=1", shard_teacher=True, offload="parameters", **site).stage("train")
    assert "offload_param" in host["execution"]["teacher_deepspeed"]["zero_optimization"]
    alone = compile_text("loss.logits=1", shard_teacher=True, **{**site, "per_node": 1}).stage("train")
    assert "teacher_deepspeed" not in alone["execution"]  # one device has nobody to share with


def test_offload_takes_partitions(compile_text):
    site = {"device": "cuda", "device_name": "NVIDIA H200", "memory_gb": 139.0}
    zero = compile_text(offload="optimizer", **site).stage("train")["execution"]["deepspeed"]["zero_optimization"]
    assert zero == {"stage": 1, "offload_optimizer": {"device": "cpu", "pin_memory": True}}


# --- record --------------------------------------------------------------------------------------


def test_the_plan_says_where_the_spec_says_what(compile_text, tmp_path):
    plan = compile_text("batch={examples: 8}").plan
    assert plan["places"]["student.decoder_layers"] == [str(tmp_path / "spec.yaml"), 9, 27]
    assert plan["places"]["batch.examples"][0] == "--set"
    assert plan["spec"]["batch"] == {"examples": 8}
    assert plan["name"] == "small"


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "path", "override"),
    [
        ("E504", "teacher.architecture.family", "teacher.architecture.family=mbart"),
        ("E505", "teacher.architecture.heads", "teacher.architecture.heads=5"),
        ("E505", "teacher.architecture.d_model", "teacher.architecture={d_model: 63, heads: 3}"),
        ("E505", "student.heads", "student.heads=5"),
        ("E508", "data.train.files", "data.train={files: nothing.jsonl}"),
        ("E508", "data.train.files", "data.train={files: ./model}"),
        ("E508", "data.train.files", "data.train={files: ./model.d}"),
        ("E412", "pseudo_labels.own.file", "pseudo_labels={own: {file: nothing.tab}}|targets=[own]"),
        ("E508", "pseudo_labels.own.file", "pseudo_labels={own: {file: model.d}}|targets=[own]"),
        ("E512", "precision", "precision=fp16"),
        ("E521", "student.decoder_layers", "student.decoder_layers=7"),
        ("E521", "student.encoder_layers", "student={encoder_layers: 4, init: {encoder: random}}"),
        ("E522", "student.init.decoder.layers[1]", "student.init.decoder={layers: [0, 6]}"),
        ("E523", "student.init.decoder.layers", "student.init.decoder={layers: [0, 3, 5]}"),
        ("E523", "student.init.decoder.layers", "student.init.decoder={layers: all}"),
        ("E522", "phi.decoder[1]", "phi={decoder: [3, 6]}|loss.hidden={decoder: 1}"),
        ("E523", "phi.decoder", "phi={decoder: [5]}|loss.hidden={decoder: 1}"),
        ("E524", "phi.decoder", "student={decoder_layers: 2, init: {decoder: random}}|phi={decoder: copied-from}|loss.hidden={decoder: 1}"),
        ("E524", "phi.decoder", "student.decoder_layers=4|phi={decoder: every-kth}|loss.hidden={decoder: 1}"),
        ("E525", "student.d_model", "student.d_model=32"),
        ("E525", "student.ffn_dim", "student.ffn_dim=32"),
        ("E526", "student.init.decoder.from", "student.init.decoder={from: {path: ./model}}"),
    ],
)
def test_refusals(compile_text, tmp_path, code, path, override):
    model_folder(tmp_path / "model", BART)
    (tmp_path / "model.d").mkdir()
    lowered = compile_text(*override.split("|"))
    assert lowered.plan is None
    assert {diagnostic.code for diagnostic in lowered.diagnostics} == {code}
    assert {diagnostic.path for diagnostic in lowered.diagnostics} == {path}
    assert all(diagnostic.hint for diagnostic in lowered.diagnostics)


@pytest.mark.parametrize(
    ("code", "config", "overrides"),
    [
        ("E502", '{"model_type": "bart", "d_mod', ()),
        ("E503", {"model_type": "gpt2"}, ()),
        ("E511", {**BART, "model_type": "pegasus"}, ("precision=fp16",)),
        ("E511", T5, ("precision=fp16",)),
        ("E513", {**BART, "max_position_embeddings": 100}, ("data.max_target_tokens=100",)),
        ("E513", {**BART, "max_position_embeddings": 512}, ("evaluation.generation={max_length: 513}",)),
        ("E515", {**BART, "model_type": "mbart"}, ("data.source_language=en_XX",)),
    ],
)
def test_refusals_of_existing_models(compile_text, tmp_path, code, config, overrides):
    folder = model_folder(tmp_path / "model", {})
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), "utf-8")
    lowered = compile_text(*overrides, text=REFERENCE)
    assert lowered.plan is None
    assert set(lowered.codes) == {code}


def test_a_legacy_layer_count_is_a_warning(compile_text, tmp_path):
    model_folder(tmp_path / "model", {**BART, "num_hidden_layers": 12})
    lowered = compile_text(text=REFERENCE)
    assert lowered.codes == ["W501"]
    assert lowered.plan["teacher"]["encoder_layers"] == 4


@pytest.mark.parametrize(
    "site",
    [
        {"offload": "optimizer"},
        {"offload": "optimizer", "zero": 0, "device": "cuda", "device_name": "NVIDIA H200"},
        {"offload": "parameters", "zero": 2, "device": "cuda", "device_name": "NVIDIA H200"},
    ],
)
def test_offload_refusals(compile_text, site):
    # Without ZeRO the bf16 of both trainings is refused as well.
    expected = {"E514", "E516"} if site.get("zero") == 0 else {"E514"}
    assert set(compile_text(**site).codes) == expected


def test_adafactor_is_not_offloaded(compile_text):
    site = {"offload": "optimizer", "device": "cuda", "device_name": "NVIDIA H200"}
    lowered = compile_text("training.optimizer.name=adafactor", **site)
    assert [(d.code, d.path) for d in lowered.diagnostics] == [("E514", "training.optimizer.name")]


H200 = {"device": "cuda", "device_name": "NVIDIA H200", "per_node": 4}


def test_adafactor_sees_whole_weights(compile_text):
    """From ZeRO stage 1 on an optimizer has flat shares. `auto` takes what goes with it, whatever fits."""
    stage = compile_text("training.optimizer.name=adafactor", **H200, memory_gb=2.0).stage("train")
    assert stage["settings"]["precision"] == "fp32"
    assert stage["execution"]["deepspeed"]["zero_optimization"]["stage"] == 0
    for override, site in (("precision=fp32", {"zero": 1}), ("precision=bf16", {}), ("precision=bf16", {"zero": 2})):
        lowered = compile_text("training.optimizer.name=adafactor", override, **H200, **site)
        assert [(d.code, d.path) for d in lowered.diagnostics] == [("E596", "training.optimizer.name")]
    own = compile_text("teacher.train.training.optimizer.name=adafactor", **H200, zero=1)
    assert [(d.code, d.path) for d in own.diagnostics] == [("E596", "teacher.train.training.optimizer.name")]


def test_a_dropout_has_a_key_of_its_own(compile_text):
    """It was once that of attention and activations too. Without one nothing has changed."""
    assert compile_text().stage("train")["settings"]["dropout"] is None
    assert compile_text("training.dropout=0.2").stage("train")["settings"]["dropout"] == {"hidden": 0.2}


def test_all_mistakes_at_once(compile_text):
    lowered = compile_text(
        "precision=fp16", "student={encoder_layers: 4, decoder_layers: 7}", "data.test={files: nothing.jsonl}"
    )
    assert sorted(lowered.codes) == ["E508", "E512", "E521", "E521"]


def test_tables_without_quoting_have_a_key_of_their_own(compile_text, tmp_path):
    """They were once read as if they had one."""
    for name in ("rows.csv", "rows.tsv", "rows.jsonl"):
        (tmp_path / name).write_text("the same\n", "utf-8")
    sources = {
        name: compile_text(f"data.train={{files: rows.{name}}}").stage("data")["settings"]["train"][0]
        for name in ("csv", "tsv", "jsonl")
    }
    assert sources["csv"] == sources["jsonl"] and "table" not in sources["csv"]
    assert sources["tsv"] == {**sources["csv"], "table": "tabs"}
