"""The student stage, from artifacts to a plain model folder."""

from __future__ import annotations

import json

import torch

from distilc.compiler.resolve.model_config import architecture_of
from distilc.runtime.execution.context import Context, Journal, Progress
from distilc.runtime.models.load import load_model
from distilc.runtime.plan.plan import Execution, Stage
from distilc.runtime.plan.settings import StackInit, StudentSettings
from distilc.runtime.stages.student import STUDENT, run


def start(settings, inputs, folder):
    execution = Execution(locations={}, micro_batch_tokens=None, save_minutes=None, deepspeed=None)
    stage = Stage(
        id="student", kind="student", key="0" * 64, needs={}, settings=settings, execution=execution
    )
    folder.mkdir()
    context = Context(
        plan=None, stage=stage, folder=folder, scratch=folder.parent / "scratch", inputs=inputs,
        rank=0, world=1, device="cpu", journal=Journal(None),
        progress=Progress(folder.parent / "progress.json", "student"),
    )  # fmt: skip
    return run(stage, context)


def test_a_referenced_teacher_and_a_foreign_decoder(tiny_model_folder, tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    teacher, origin = tiny_model_folder("pegasus", 4, 4), tiny_model_folder("pegasus", 2, 4, dropout=0.2)
    artifact = tmp_path / "teacher"
    artifact.mkdir()
    (artifact / "reference.json").write_text(json.dumps({"path": str(teacher), "files": {}}))
    shape = architecture_of(json.loads((teacher / "config.json").read_text()))
    student_shape = shape.shrunk(encoder_layers=4, decoder_layers=2, d_model=16, heads=None, ffn_dim=None)
    settings = StudentSettings(
        family="pegasus", config=student_shape.changes(shape), encoder_layers=4, decoder_layers=2,
        embeddings="teacher", encoder=StackInit(origin="teacher", layers=(0, 1, 2, 3)),
        decoder=StackInit(origin="decoder_origin", layers=(0, 3)), seed=None,
        num_labels=None, parameters=student_shape.parameters,
    )  # fmt: skip
    folder = tmp_path / "student"
    summary = start(settings, {"teacher": artifact, "decoder_origin": origin}, folder)

    assert STUDENT.parallel is False
    assert {key: summary[key] for key in ("parameters", "encoder_layers", "decoder_layers")} == {
        "parameters": student_shape.parameters, "encoder_layers": 4, "decoder_layers": 2,
    }  # fmt: skip
    assert [(c["stack"], c["origin"], c["origin_layer"]) for c in summary["copied"]] == [
        *(("encoder", "teacher", layer) for layer in range(4)),
        ("decoder", "decoder_origin", 0), ("decoder", "decoder_origin", 3),
    ]  # fmt: skip
    record = json.loads((folder / "distilc.json").read_text())
    assert record["copied"] == summary["copied"]
    assert record["teacher"] == {"family": "pegasus", "parameters": shape.parameters, "encoder_layers": 4,
                                 "decoder_layers": 4}  # fmt: skip
    assert "init_metadata" not in (folder / "config.json").read_text()
    assert str(tmp_path) not in "".join(file.read_text() for file in folder.glob("*.json"))
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 4

    model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    theirs = load_model(origin)
    assert torch.equal(model.model.decoder.layers[1].fc1.weight, theirs.model.decoder.layers[3].fc1.weight)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    produced = model.generate(**tokenizer(["heavy rain closed two roads"], return_tensors="pt"), max_length=9)
    assert produced.shape == (1, 9) and produced[0, 0] == tokenizer.pad_token_id


def test_the_same_inputs_give_the_same_bytes(tiny_model_folder, tmp_path):
    teacher = tiny_model_folder("t5", 3, 3)
    shape = architecture_of(json.loads((teacher / "config.json").read_text()))
    student_shape = shape.shrunk(encoder_layers=3, decoder_layers=1, d_model=16, heads=None, ffn_dim=None)
    settings = StudentSettings(
        family="t5", config=student_shape.changes(shape), encoder_layers=3, decoder_layers=1,
        embeddings="teacher", encoder=StackInit(origin="teacher", layers=(0, 1, 2)),
        decoder=StackInit(origin=None, layers=None), seed=11,
        num_labels=None, parameters=student_shape.parameters,
    )  # fmt: skip
    for name in ("first", "second"):
        start(settings, {"teacher": teacher}, tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert files == ["config.json", "distilc.json", "generation_config.json", "model.safetensors",
                     "tokenizer.json", "tokenizer_config.json"]  # fmt: skip
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
