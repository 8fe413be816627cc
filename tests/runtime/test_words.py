"""Scores of texts in any script, of several references, and what is said where a metric does not see the texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from distilc.runtime.commands import evaluate
from distilc.runtime.failure import Failure
from distilc.runtime.labels.quality import best, quality
from distilc.runtime.metrics.score import how_scored, score
from distilc.runtime.metrics.sentences import split_sentences
from distilc.runtime.metrics.words import UnicodeWords, require_seen, unseen
from distilc.runtime.plan.settings import Scoring

UNICODE = Scoring(rouge_tokenizer="unicode", stemmer=False)
NEPALI = "काठमाडौंमा आज भारी वर्षा भयो र सडकहरू डुबानमा परे।"
RUSSIAN = "Правительство утвердило новый бюджет на следующий год."
CHINESE = ("今天下午北京下了大雨。", "他每天早上坐地铁去学校。", "这本书的作者获得了文学奖。")
REFERENCES = ("今天下午北京下了一场大雨。", "他每天早上坐地铁去学校上课。", "这本书的作者获得了国家文学奖。")


@pytest.mark.parametrize("stemmer", [True, False])
def test_on_ascii_the_words_are_those_of_rouge(stemmer: bool) -> None:
    text = "The U.S. team's 3 runners_up were running (again), it's 4.5 miles\tfrom Leeds-on-Sea!"
    assert UnicodeWords(stemmer=stemmer).tokenize(text) == DefaultTokenizer(stemmer).tokenize(text)


def test_words_of_other_scripts() -> None:
    words = UnicodeWords(stemmer=False)
    assert words.tokenize("Die Bürgermeisterin, größte") == ["die", "bürgermeisterin", "größte"]
    assert words.tokenize("u\u0308ber ÜBER") == ["über", "über"]  # however the dots are written
    assert words.tokenize(NEPALI)[:3] == ["काठमाडौंमा", "आज", "भारी"]  # vowel signs do not end a word
    assert words.tokenize("北京2024年 iPhone 15") == ["北", "京", "2024", "年", "iphone", "15"]
    assert words.tokenize("ที่นี่") == ["ที่", "นี่"]


@pytest.mark.parametrize("text", [NEPALI, RUSSIAN, *CHINESE])
def test_a_perfect_text_is_perfect_in_every_script(text: str) -> None:
    metrics = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    found = score(metrics, [text], [text], UNICODE)
    assert {metric: found[metric]["value"] for metric in metrics} == pytest.approx(dict.fromkeys(metrics, 100.0))
    assert found["rouge1"]["tokenizer"] == "unicode" and found["rouge1"]["stemmer"] is False
    assert score(["rouge2"], [text], [text])["rouge2"]["value"] == 0.0  # by the usual one, which sees nothing of it


def test_what_is_usual_is_not_told() -> None:
    found = score(["rouge1", "bleu"], ["a cat"], ["a cat"])
    assert "tokenizer" not in found["rouge1"] and "stemmer" not in found["rouge1"] and how_scored(found) == []
    scoring = Scoring(rouge_tokenizer="unicode", stemmer=False, bleu_tokenize="zh")
    found = score(["rouge1", "bleu"], ["a cat"], [["a cat", "the cat"]], scoring)
    assert how_scored(found) == ["ROUGE by unicode words without stemmer", "several references a row", "BLEU by zh"]


def test_bleu_of_chinese_is_sacrebleus() -> None:
    found = score(["bleu"], CHINESE, REFERENCES, Scoring(bleu_tokenize="zh"))["bleu"]
    expected = sacrebleu.corpus_bleu(CHINESE, [REFERENCES], tokenize="zh").score
    assert found["value"] == pytest.approx(expected) and expected > 50
    assert "|tok:zh|" in found["signature"]
    assert score(["bleu"], CHINESE, REFERENCES)["bleu"]["value"] < 1


def test_several_references_are_scored_as_the_libraries_do() -> None:
    predictions = ["the cat sat on the mat", "two men were arrested", "it rained all day long"]
    rows = [["a cat sat on a mat", "the cat is on the mat"], ["police arrested two men"],
            ["it was raining", "it rained the whole day long", "rain all day"]]  # fmt: skip
    found = score(["rouge1", "rouge2", "bleu", "chrf"], predictions, rows)
    scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=True)
    for metric in ("rouge1", "rouge2"):
        expected = [scorer.score_multi(row, text)[metric].fmeasure for row, text in zip(rows, predictions, strict=True)]
        assert found[metric]["value"] == pytest.approx(100 * sum(expected) / 3)
        assert found[metric]["references"] == 3
    streams = [[row[i] if i < len(row) else None for row in rows] for i in range(3)]
    assert found["bleu"]["value"] == pytest.approx(sacrebleu.corpus_bleu(predictions, streams).score)
    assert found["chrf"]["value"] == pytest.approx(sacrebleu.corpus_chrf(predictions, streams).score)
    assert "nrefs:var" in found["bleu"]["signature"]
    alone = score(["rouge1"], predictions, [row[0] for row in rows])["rouge1"]["value"]
    assert found["rouge1"]["value"] > alone


def test_line_breaks_of_pegasus() -> None:
    metrics = ("rouge1", "rougeLsum")
    written, reference = "It rained.<n>the school shut.", "The school shut.<n>It rained."
    found = score(metrics, [written], [reference], Scoring(line_break="<n>"))
    assert found["rougeLsum"]["value"] == found["rouge1"]["value"] == pytest.approx(100.0)
    as_lines = score(metrics, [written.replace("<n>", "\n")], [reference.replace("<n>", "\n")])
    assert found == as_lines
    assert score(["rougeLsum"], [written], [reference])["rougeLsum"]["value"] < 100


def test_sentences_of_other_scripts_end() -> None:
    assert split_sentences("今天下雨。学校关门了！", any_script=True) == ["今天下雨。", "学校关门了！"]
    assert split_sentences("वर्षा भयो। सडक बन्द छ।", any_script=True) == ["वर्षा भयो।", "सडक बन्द छ।"]
    assert split_sentences("今天下雨。学校关门了！") == ["今天下雨。学校关门了！"]


def test_labels_are_judged_by_the_same_words() -> None:
    assert quality(("rouge2",), RUSSIAN, RUSSIAN, UNICODE) == {"rouge2": pytest.approx(100.0)}
    assert quality(("rouge2",), RUSSIAN, RUSSIAN, Scoring()) == {"rouge2": 0.0}
    zh = Scoring(bleu_tokenize="zh")
    assert quality(("bleu",), CHINESE[0], REFERENCES[0], zh)["bleu"] > 50
    assert best("rouge2", ["другой текст тут", RUSSIAN], RUSSIAN, UNICODE) == 1


def test_a_metric_that_does_not_see_the_texts_is_told() -> None:
    (rouge,) = unseen(["rouge1", "loss", "rouge2"], [NEPALI], Scoring())
    assert rouge.metrics == ("rouge1", "rouge2") and "100 % of those of the references" in rouge.message
    assert "tokenizer: unicode" in rouge.hint
    (bleu,) = unseen(["bleu", "chrf"], [list(REFERENCES)], Scoring())
    assert bleu.metrics == ("bleu",) and "13a" in bleu.message and "zh" in bleu.hint
    for texts, scoring in (([NEPALI], UNICODE), (["Über Ärzte, größer: déjà vu"], Scoring()), (["12 %"], Scoring())):
        assert unseen(["rouge2", "bleu"], texts, scoring) == []
    with pytest.raises(Failure, match=r"`stopping\.monitor` depends on rouge2") as caught:
        require_seen("rouge2", [NEPALI], Scoring(), "`stopping.monitor`", "stopping.monitor")
    assert (caught.value.code, caught.value.spec_path) == ("R357", "stopping.monitor")
    require_seen("loss", [NEPALI], Scoring(), "`stopping.monitor`", "stopping.monitor")


def test_a_tokenizer_that_is_not_there_is_a_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MeCab", None)
    with pytest.raises(Failure) as caught:
        score(["bleu"], ["今日は雨。"], ["今日は雨。"], Scoring(bleu_tokenize="ja-mecab"))
    assert caught.value.code == "R356" and "sacrebleu[ja]" in caught.value.hint


def test_the_command_takes_lists_of_references_and_tokenizers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hyp.txt").write_text("\n".join(CHINESE) + "\n", "utf-8")
    rows = [{"zh": [reference, text]} for reference, text in zip(REFERENCES, CHINESE, strict=True)]
    (tmp_path / "ref.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = [str(tmp_path / "hyp.txt"), str(tmp_path / "ref.jsonl"), "--metric", "bleu", "--metric", "rouge1"]
    assert evaluate.main([*words, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [found["metrics"] for found in told["warnings"]] == [["rouge1"], ["bleu"]]
    asked = ["--rouge-tokenizer", "unicode", "--stemmer", "no", "--bleu-tokenize", "zh"]
    assert evaluate.main([*words, *asked]) == 0
    shown = capsys.readouterr().out
    assert shown.count(" 100.00 ") == 2 and "nrefs:2" in shown and "warning" not in shown
