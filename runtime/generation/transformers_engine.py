"""The reference engine: `generate` of transformers, for every model and every setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..models.families import depths
from ..models.load import Precision, load_model, load_tokenizer
from ..plan.settings import GenerationSettings
from .engine import OnBatch, Source, batches, lengths_of
from .rescoring import padded, sequence_scores
from .sampling import draw_processors
from .search import answer_in_language, end_token, has_languages, length_penalty, limit_of, merged_config
from .texts import writing


class TransformersEngine:
    """Of a loaded model in eval mode and its tokenizer; the model stays on its device."""

    name = "transformers"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: GenerationSettings,
        device: str | torch.device,
        labels: Source | None = None,
        note: str = "",
        with_scores: bool = True,
    ) -> None:
        self.model, self.tokenizer, self.settings, self.device, self.note = model, tokenizer, settings, device, note
        self.with_scores = with_scores
        self.config = merged_config(model.generation_config, settings)
        self.length_penalty = length_penalty(model.generation_config, settings)
        if labels is not None and has_languages(tokenizer):
            answer_in_language(self.config, model.config.model_type, labels)

    @classmethod
    def open(
        cls,
        settings: GenerationSettings,
        folder: Path,
        *,
        precision: Precision,
        device: str,
        labels: Source | None = None,
        note: str = "",
        with_scores: bool = True,
    ) -> TransformersEngine:
        """Of a model folder."""
        model = load_model(folder, precision=precision).to(device)
        return cls(model, load_tokenizer(folder), settings, device, labels, note, with_scores)

    @property
    def width(self) -> int:
        """As `Engine` says."""
        num_draws = (self.settings.n_best or 1) if self.settings.sampling is not None else 1
        return max(self.config.num_beams or 1, num_draws)

    @property
    def limit(self) -> int:
        """As `Engine` says."""
        return limit_of(self.config)

    def generate(
        self,
        sources: Sequence[Source],
        on_batch: OnBatch,
        *,
        ids: Sequence[int] | None = None,
        batch_size: int | None = None,
    ) -> None:
        """As `Engine` says."""
        numbers = range(len(sources)) if ids is None else ids
        with writing(self.tokenizer, on_batch) as writer:
            for batch in batches(lengths_of(sources), self.width, batch_size):
                positions = batch.tolist()
                found = self.search([sources[i] for i in positions], [numbers[i] for i in positions])
                writer.add(positions, found)

    def search(self, sources: Sequence[Source], ids: Sequence[int]) -> list[list[tuple[list[int], float]]]:
        """One batch: for each source its hypotheses, the best first, as (ids after the decoder's start, score)."""
        per_source = self.config.num_return_sequences or 1
        processors: Any = None
        if self.settings.sampling is not None:
            per_source = self.settings.n_best or 1
            processors = draw_processors(
                self.settings.sampling, [(i, number) for i in ids for number in range(per_source)]
            )
        rows = sources if processors is None else [source for source in sources for _ in range(per_source)]
        sequences = generate_ids(
            self.model, rows, self.config, self.tokenizer.pad_token_id, self.device, logits_processor=processors
        )  # (B * per_source, 1 + T)
        scores = [math.nan] * len(sequences)
        if self.with_scores:
            scores = sequence_scores(
                self.model, sources, sequences, self.config, self.length_penalty, self.tokenizer.pad_token_id
            )
        end = end_token(self.config)
        hypotheses = [(_until(end, ids), score) for ids, score in zip(sequences[:, 1:].tolist(), scores, strict=True)]
        grouped = [hypotheses[start : start + per_source] for start in range(0, len(hypotheses), per_source)]
        if processors is not None and self.with_scores:
            grouped = [sorted(group, key=lambda one: -one[1]) for group in grouped]
        return grouped


def _until(end: int, ids: list[int]) -> list[int]:
    """Up to and with the end token: what follows is padding."""
    return ids[: ids.index(end) + 1] if end in ids else ids


@torch.inference_mode()
def generate_ids(
    model: Any, sources: Sequence[Source], config: Any, pad_id: int, device: str | torch.device, **options: Any
) -> Any:
    """What `model.generate` gives for one batch of source rows, padded on the right: token ids (B, 1 + T)."""
    return model.generate(
        **padded(sources, pad_id, device),
        generation_config=config,
        **({} if config.use_cache is False else _cache(model)),
        **options,
    )


def _cache(model: Any) -> dict[str, Any]:
    """A cache that grows as layers ask for it, where transformers would make one too short: it counts the layers of
    the first stack, and a deeper one above it then fails."""
    first, *above = depths(model).values()
    if not above or max(above) <= first:
        return {}
    from transformers import DynamicCache, EncoderDecoderCache

    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}
