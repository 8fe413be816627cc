"""What the tokenizer of a model does with a language: a code in every sequence (mBART), a token before the source (a
Marian model that writes several languages), or nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os.path import isfile
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.diagnostic import did_you_mean
from ..diagnostics.record import record
from ..diagnostics.regular_file import json_mapping
from ..extensions.builtin_families import Family

_LINE_BREAK = b"<n>"
_ADDED = re.compile(rb'"content"\s*:\s*"([^"\\<>]+)"')  # the added tokens of a tokenizer.json, of 17 MB or more
# The codes that mBART's tokenizers have whatever their files say, each with the language in ISO 639-3.
_MBART = dict(code.split("=") for code in (
    "ar_AR=ara cs_CZ=ces de_DE=deu en_XX=eng es_XX=spa et_EE=est fi_FI=fin fr_XX=fra gu_IN=guj hi_IN=hin it_IT=ita "
    "ja_XX=jpn kk_KZ=kaz ko_KR=kor lt_LT=lit lv_LV=lav my_MM=mya ne_NP=nep nl_XX=nld ro_RO=ron ru_RU=rus si_LK=sin "
    "tr_TR=tur vi_VN=vie zh_CN=zho"
).split())  # fmt: skip
_MBART50 = _MBART | dict(code.split("=") for code in (
    "af_ZA=afr az_AZ=aze bn_IN=ben fa_IR=fas he_IL=heb hr_HR=hrv id_ID=ind ka_GE=kat km_KH=khm mk_MK=mkd ml_IN=mal "
    "mn_MN=mon mr_IN=mar pl_PL=pol ps_AF=pus pt_XX=por sv_SE=swe sw_KE=swa ta_IN=tam te_IN=tel th_TH=tha tl_XX=tgl "
    "uk_UA=ukr ur_PK=urd xh_ZA=xho gl_ES=glg sl_SI=slv"
).split())  # fmt: skip
_TOKEN = re.compile(r">>(.+)<<\Z")


@record
class Languages:
    """kind codes: sequences have the codes of their languages. tokens: a source begins with the token of the target's.
    `known`: of which ones, None: its vocabulary is not here. none: to this tokenizer languages mean nothing."""

    kind: Literal["codes", "tokens", "none"]
    known: tuple[str, ...] | None = None

    def prefix(self, language: str | None) -> str:
        """What a source begins with, so that the model writes this language."""
        return f">>{language}<< " if self.kind == "tokens" and language in (self.known or ()) else ""

    def near(self, language: str) -> str:
        """The language of the `known` ones that was probably meant; "": none is near. Codes have one language each,
        which is meant by `id`, `ind` and `id_XX` alike."""
        if self.kind != "codes":
            return did_you_mean(language, self.known or ())
        word = re.split("[_-]", language.lower())[0]
        same = [code for code in self.known or () if word in (code.split("_")[0].lower(), _MBART50.get(code))]
        return same[0] if same else did_you_mean(language, self.known or (), cutoff=0.75)


NO_LANGUAGES = Languages("none")


def languages_of(family: Family, folder: Path | None, config: Mapping[str, Any]) -> Languages:
    """Of a model of this family. `folder`: its own; None: there is none, or what is in it is not known."""
    if family.languages == "tokens":
        vocabulary = {} if folder is None else json_mapping(folder / "vocab.json")
        if not vocabulary:
            return Languages("tokens")
        known = tuple(found[1] for token in vocabulary if (found := _TOKEN.match(token)))
        return Languages("tokens", known) if known else NO_LANGUAGES
    if family.languages != "codes":
        return NO_LANGUAGES
    said = {} if folder is None else json_mapping(folder / "tokenizer_config.json")
    kind = str(said.get("tokenizer_class") or config.get("tokenizer_class") or "MBartTokenizer")
    if not kind.startswith("MBart"):
        return NO_LANGUAGES
    if folder is None or not any(isfile(folder / name) for name in ("tokenizer.json", "sentencepiece.bpe.model")):
        return Languages("codes")
    try:
        added = _ADDED.findall((folder / "tokenizer.json").read_bytes())
    except OSError:
        added = []
    codes = dict.fromkeys(_MBART50 if kind.startswith("MBart50") else _MBART)
    codes |= dict.fromkeys(code.decode("utf-8", "replace") for code in added)
    return Languages("codes", tuple(codes))


def has_line_break(family: Family, folder: Path | None) -> bool:
    """Does a model of this family write `<n>` for a line break? Pegasus's checkpoints do; one that was built from
    scratch has no such token. `folder`: as of `languages_of`."""
    if not family.line_break:
        return False
    files = [file for name in ("tokenizer.json", "spiece.model") if folder and isfile(file := folder / name)]
    return not files or any(_LINE_BREAK in file.read_bytes() for file in files)
