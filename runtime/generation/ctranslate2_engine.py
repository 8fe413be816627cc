"""The fast engine: beam search of ctranslate2 on a converted model, exactly as transformers searches.

Token ids go in and come out; the tokenizer only writes the texts. Where the end of a text is forced at the
length limit, which ctranslate2 does not know, the last step is taken here (`_Search.forced`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..models.families import family_of
from ..models.load import load_tokenizer
from ..plan.settings import ComputeType, GenerationSettings
from .conversion import COMPUTE_TYPES, quiet_ctranslate2, vocabulary_of
from .engine import OnBatch, Source, batches, lengths_of
from .fit import differing, lacking
from .search import answer_in_language, end_token, has_languages, length_penalty, limit_of, merged_config
from .texts import writing
from .transformers_engine import TransformersEngine

Found = list[tuple[list[int], float]]  # the hypotheses of one source: (ids after the decoder's start, score)


class Unsupported(Exception):
    """Why ctranslate2 is not the engine for this model, these settings, or this machine."""


class CTranslate2Engine:
    """Of a converted model. `reference` opens the reference engine, for the few sources whose lower-ranked
    hypotheses ctranslate2 does not tell."""

    name = "ctranslate2"
    note = ""

    def __init__(
        self,
        converted: Path,
        folder: Path,
        settings: GenerationSettings,
        device: str,
        labels: Source | None,
        reference: Callable[[], TransformersEngine],
        *,
        num_threads: int,
        one_at_a_time: bool = False,
    ) -> None:
        """Raises `Unsupported`, and `Failure` R226, R322."""
        record = _record(converted)
        if record["reason"] is not None:
            raise Unsupported(f"cannot be this model: {record['reason']}")
        from transformers import GenerationConfig

        own = GenerationConfig.from_pretrained(converted, local_files_only=True)
        self.config = merged_config(own, settings)
        self.tokenizer = load_tokenizer(folder)
        if labels is not None and has_languages(self.tokenizer):
            answer_in_language(self.config, record["model_type"], labels)
        if reason := lacking(self.config, sampling=settings.sampling is not None):
            raise Unsupported(f"has nothing for {reason}")
        if not settings.named and (reason := differing(self.config)):
            raise Unsupported(f"has its own way with {reason}")
        self.settings, self.length_penalty = settings, length_penalty(own, settings)
        self.num_hypotheses = settings.n_best or 1
        self.tokens = vocabulary_of(converted)
        self.rows = {token: row for row, token in enumerate(self.tokens)}
        self.end = end_token(self.config)
        self.limit = limit_of(self.config)
        self.prefix = self._prefix(record["model_type"])
        self._open_reference = reference
        self._reference: TransformersEngine | None = None
        self.num_workers = 1 if one_at_a_time else _num_workers(device, num_threads)
        self.translator = _translator(
            converted, device, record["compute_type"], self.num_workers, max(1, num_threads // self.num_workers)
        )

    def _prefix(self, model_type: str) -> list[int]:
        """Ids that every text of a request opens with: the language that it starts from, a forced first token."""
        prefix = []
        if family_of(model_type).decoder_start == "language":
            start = self.config.decoder_start_token_id
            if start is None:
                raise Unsupported("is not told in which language to answer")
            prefix.append(int(start))
        if self.config.forced_bos_token_id is not None:
            prefix.append(int(self.config.forced_bos_token_id))
        return prefix

    @property
    def width(self) -> int:
        """As `Engine` says."""
        return self.config.num_beams or 1

    def generate(
        self,
        sources: Sequence[Source],
        on_batch: OnBatch,
        *,
        ids: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        """As `Engine` says. Batches wait in a queue, so that every worker of ctranslate2 has one at any time."""
        waiting: deque[tuple[list[int], _Search]] = deque()
        with writing(self.tokenizer, on_batch) as writer:
            for batch in batches(lengths_of(sources), self.width, batch_size):
                positions = batch.tolist()
                waiting.append((positions, _Search(self, [sources[i] for i in positions])))
                if len(waiting) > self.num_workers:
                    positions, search = waiting.popleft()
                    writer.add(positions, search.result())
            while waiting:
                positions, search = waiting.popleft()
                writer.add(positions, search.result())

    def submit(self, sources: Sequence[Source], limit: int, num_hypotheses: int) -> list[Any]:
        """Searches that are under way, one a source, of at most `limit` tokens each."""
        beams = self.config.num_beams or 1
        bad = self.config.bad_words_ids or []
        prefix = [self.tokens[i] for i in self.prefix]
        found: list[Any] = self.translator.translate_batch(
            [[self.tokens[i] for i in source.tolist()] for source in sources],
            [prefix] * len(sources) if prefix else None,
            asynchronous=True,
            beam_size=beams,
            num_hypotheses=num_hypotheses,
            length_penalty=self.length_penalty,
            no_repeat_ngram_size=self.config.no_repeat_ngram_size or 0,
            suppress_sequences=[[self.tokens[i] for i in word] for word in bad] or None,
            return_end_token=True,
            max_input_length=0,
            max_decoding_length=limit,
            min_decoding_length=max(0, self.config.min_new_tokens or (self.config.min_length or 0) - 1),
            return_scores=True,
        )
        return found

    def reference(self) -> TransformersEngine:
        if self._reference is None:
            self._reference = self._open_reference()
        return self._reference


class _Search:
    """One batch under way."""

    def __init__(self, engine: CTranslate2Engine, sources: Sequence[Source]) -> None:
        self._engine, self._sources = engine, sources
        self._forced = engine.config.forced_eos_token_id is not None
        self._greedy = (engine.config.num_beams or 1) == 1
        limit = engine.limit - 1 if self._forced and self._greedy else engine.limit
        # With all beams told, one at the limit is among them wherever the search came so far.
        num_hypotheses = engine.config.num_beams or 1 if self._forced else engine.num_hypotheses
        self._running = engine.submit(sources, limit, num_hypotheses)

    def result(self) -> list[Found]:
        """For each source its hypotheses, the best first."""
        found = [self._hypotheses(search) for search in self._running]
        if not self._forced:
            return found
        if self._greedy:
            return [[self._ended(*hypothesis) for hypothesis in hypotheses] for hypotheses in found]
        limit = self._engine.limit
        at_limit = [i for i, hypotheses in enumerate(found) if any(len(ids) >= limit for ids, _ in hypotheses)]
        if at_limit:
            for i, hypotheses in zip(at_limit, self._forced_ends([self._sources[i] for i in at_limit]), strict=True):
                found[i] = hypotheses
        return [hypotheses[: self._engine.num_hypotheses] for hypotheses in found]

    def _forced_ends(self, sources: Sequence[Source]) -> list[Found]:
        """Of sources that are not done one step before the limit: all beams end in the next one, for nothing. The
        best of those is among the hypotheses of a search that goes one step less; of the others, those that come
        into the beams in the last place are not."""
        engine = self._engine
        if engine.num_hypotheses > 1:
            return engine.reference().search(sources, range(len(sources)))
        searches = engine.submit(sources, engine.limit - 1, engine.config.num_beams)
        found = [[self._ended(*hypothesis) for hypothesis in self._hypotheses(search)] for search in searches]
        return [sorted(hypotheses, key=lambda one: -one[1])[:1] for hypotheses in found]

    def _hypotheses(self, search: Any) -> Found:
        rows = self._engine.rows
        result = search.result()
        return [
            ([rows[token] for token in tokens], float(score))
            for tokens, score in zip(result.hypotheses, result.scores, strict=True)
        ]

    def _ended(self, ids: list[int], score: float) -> tuple[list[int], float]:
        """With the end that the limit forces on it."""
        if ids and ids[-1] == self._engine.end:
            return ids, score
        shorter, longer = len(ids), len(ids) + 1
        return [*ids, self._engine.end], score * (shorter / longer) ** self._engine.length_penalty


def _record(converted: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((converted / "conversion.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(
            "R322",
            f"cannot read the converted model in {converted}: {error}",
            f"remove the folder and run again: rm -r {converted}",
        ) from error
    return record


def _num_workers(device: str, num_threads: int) -> int:
    """Batches that are searched at once. On the CPU threads that share a batch wait for each other at every step;
    beyond four batches memory would be the limit."""
    return 1 if device.startswith("cuda") else min(4, num_threads)


def _translator(converted: Path, device: str, compute_type: ComputeType, num_workers: int, num_threads: int) -> Any:
    import ctranslate2

    place, _, index = device.partition(":")
    wanted = COMPUTE_TYPES[compute_type]
    if wanted not in ctranslate2.get_supported_compute_types(place):
        raise Unsupported(f"does not calculate in {compute_type} on this {'GPU' if place == 'cuda' else 'CPU'}")
    try:
        with quiet_ctranslate2():
            return ctranslate2.Translator(
                str(converted), device=place, device_index=int(index or 0), compute_type=wanted,
                inter_threads=num_workers, intra_threads=num_threads,
            )  # fmt: skip
    except RuntimeError as error:
        raise Unsupported(f"cannot load it here: {error}") from error
