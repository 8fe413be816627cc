"""What every diagnostic code means: the texts of `distilc explain E###`.

One table, one entry for each code; a test runs every example and asserts that the incorrect one gives its code
and the corrected one does not. An example that opens with `version:`, `-` or `%` is a whole spec; any other
is laid over the starter spec (`distilc init`). A first line `$ ...` is the command line, the rest is
`spec.yaml`; a command alone runs on the starter spec.
"""

# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """`title` is a phrase, `meaning` whole sentences, `incorrect` and `corrected` examples."""

    title: str
    meaning: str
    incorrect: str
    corrected: str


CODES: dict[str, Code] = {
    # --- E1xx: reading the text -------------------------------------------------------------------
    "E101": Code(
        "the file cannot be read",
        "There is no file of this name, it is a folder, or its permissions forbid reading it.",
        "$ distilc check spek.yaml",
        "$ distilc check spec.yaml",
    ),
    "E102": Code(
        "the file is too large",
        "A spec is at most 1 MiB. It names data; it does not contain them.",
        "$ yes '# rows' | head -c 1100000 > spec.yaml; distilc check spec.yaml",
        "data: {train: {files: rows.jsonl}}",
    ),
    "E103": Code(
        "the file is not UTF-8",
        "A spec is UTF-8 text, with or without a byte order mark. Other encodings (Latin-1, UTF-16) are not guessed.",
        "$ printf 'name: caf\\351\\n' > spec.yaml; distilc check spec.yaml",
        "$ printf 'tracking: {tags: {place: caf\\303\\251}}\\n' > spec.yaml; distilc check spec.yaml",
    ),
    "E104": Code(
        "a control character",
        "NUL and other control characters, and the Unicode line separators, are not allowed in a spec. Inside double "
        'quotes they can be written as escapes, such as "\\x00".',
        "$ printf 'name: a\\0b\\n' > spec.yaml; distilc check spec.yaml",
        "name: ab",
    ),
    "E105": Code(
        "not valid YAML",
        "The text breaks a rule of YAML 1.2: inconsistent indentation, an unclosed bracket or quotation mark, a value "
        "that begins with a special character. The rest of the file cannot be checked.",
        "batch: {examples: 32",
        "batch: {examples: 32}",
    ),
    "E106": Code(
        "a tab in the indentation",
        "YAML indents with spaces.",
        "batch:\n\texamples: 32",
        "batch:\n  examples: 32",
    ),
    "E107": Code(
        "a duplicate key",
        "Many YAML readers silently take the second one. Here a key appears once in its mapping.",
        "batch: {examples: 32}\nprecision: fp32\nbatch: {examples: 64}",
        "batch: {examples: 64}\nprecision: fp32",
    ),
    "E108": Code(
        "a YAML tag",
        "Tags (`!name`) make programs build objects. A spec has plain values only, so that reading it can never run "
        "code.",
        "name: !env RUN_NAME",
        "name: my-run",
    ),
    "E109": Code(
        "an alias that cannot be resolved",
        "An alias (`*name`) refers to no anchor (`&name`) above it, or is inside its own anchor, or the aliases of "
        "the file expand to a tree that is too large.",
        "batch: *small",
        "batch: {examples: 32}",
    ),
    "E110": Code(
        "several documents",
        "A spec is one YAML document. `---` starts a second one.",
        "batch: {examples: 32}\n---\nbatch: {examples: 64}",
        "batch: {examples: 32}",
    ),
    "E111": Code(
        "the top level is not a mapping",
        "A spec is a mapping of keys to values; this file is empty, a list, or a single value.",
        "- version: 1\n- name: my-run",
        "name: my-run",
    ),
    "E112": Code(
        "a key is not text",
        "A number, true, false, null, a list or a mapping is used as a key. Quote it if it is a name.",
        "tracking: {tags: {2024: yes}}",
        'tracking: {tags: {"2024": yes}}',
    ),
    "E113": Code(
        "a number out of range",
        "Infinity, not-a-number, and whole numbers of more than 64 bits are not allowed in a spec. The usual cause is "
        "a commit or a version that looks like a number: YAML reads 12e4567 as infinity.",
        "data: {train: {hub: EdinburghNLP/xsum, revision: 12e4567}}",
        'data: {train: {hub: EdinburghNLP/xsum, revision: "12e4567"}}',
    ),
    "E114": Code(
        "too deep or too large",
        "More than 50 levels or 20,000 values. The usual cause is a bracket too many, data that belong in files, or "
        "runs listed one by one that a `matrix` would multiply out.",
        f"name: {'[' * 60}{']' * 60}",
        "name: my-run",
    ),
    "E115": Code(
        "a merge key",
        "`<<` was an extension of YAML 1.1. Use `extends` to build on another file.",
        "batch: &small {examples: 32}\nteacher:\n  train:\n    batch: {<<: *small}",
        "batch: &small {examples: 32}\nteacher:\n  train:\n    batch: *small",
    ),
    "E116": Code(
        "another version of YAML",
        "A spec is YAML 1.2: `no` is text, `010` is ten, `3e-4` is a number. `%YAML 1.1` asks for other rules.",
        "%YAML 1.1\n---\nversion: 1",
        "%YAML 1.2\n---\nversion: 1",
    ),
    # --- E2xx: structure --------------------------------------------------------------------------
    "E201": Code(
        "an unknown key",
        "The key is not known in this place. Unknown keys are never ignored: with a misspelt `learning_rate` the "
        "training would not be the one that was meant.",
        "training: {lerning_rate: 1.0e-4}",
        "training: {learning_rate: 1.0e-4}",
    ),
    "E202": Code(
        "a key is missing",
        "The key has no default and must be given.",
        "version: 1\nname: my-run",
        "name: my-run",
    ),
    "E203": Code(
        "a value of the wrong type",
        "Text instead of a number, a single value instead of a mapping, and so on.",
        "stopping: {max_epochs: three}",
        "stopping: {max_epochs: 3}",
    ),
    "E204": Code(
        "not one of the choices",
        "The key takes one of a fixed set of values.",
        "training: {schedule: linera}",
        "training: {schedule: linear}",
    ),
    "E205": Code(
        "a number out of bounds",
        "The number is below the minimum or above the maximum of its key.",
        "training: {dropout: 1.5}",
        "training: {dropout: 0.1}",
    ),
    "E206": Code(
        "exactly one of several",
        "A mapping is one of several kinds, and one key says which: a model is `hub`, `path`, ...; a data source "
        "`hub`, `files` or `builtin`; a batch `examples` or `tokens`; a warm-up `steps` or `ratio`. None of these "
        "keys is given, or more than one.",
        "batch: {examples: 64, tokens: 4096}",
        "batch: {tokens: 4096}",
    ),
    "E207": Code(
        "a key that needs another one",
        "The key has a meaning only together with another one.",
        "data: {train: {builtin: bulletins, revision: main}}",
        "data: {train: {builtin: bulletins}}",
    ),
    "E208": Code(
        "a name or text that is not allowed here",
        "The text is empty, too long, or has characters that are not allowed there.",
        "name: my run/1",
        "name: my-run-1",
    ),
    "E209": Code(
        "too few entries, too many, or duplicates",
        "A list or mapping has fewer or more entries than allowed, or a list has an entry twice.",
        "evaluation: {metrics: [rouge1, rouge1]}",
        "evaluation: {metrics: [rouge1, rouge2]}",
    ),
    # --- E3xx: putting files and options together -------------------------------------------------
    "E301": Code(
        "a file to extend does not exist",
        "`extends` names a file, relative to the file that contains it.",
        "extends: bases.yaml",
        "extends: base.yaml",
    ),
    "E302": Code(
        "circular `extends`",
        "A file extends itself, directly or through others, or the chain of files is longer than 20.",
        "extends: spec.yaml",
        "extends: base.yaml",
    ),
    "E303": Code(
        "an unknown ${...}",
        "`${paths.NAME}` is a folder whose location depends on the machine. NAME is defined in the site file or with "
        "--path. Nothing else is substituted, environment variables neither.",
        'data: {train: {files: "${paths.corpus}/train.jsonl"}}',
        '$ distilc check --path corpus=. spec.yaml\ndata: {train: {files: "${paths.corpus}/train.jsonl"}}',
    ),
    "E304": Code(
        "${...} outside of a file location",
        "Only locations may depend on the machine: `${paths.NAME}` is allowed in data files and model folders, "
        "nowhere else.",
        'name: "${paths.corpus}"',
        "name: my-run",
    ),
    "E305": Code(
        "a --set path that does not exist",
        "The path steps into a single value, or beyond the end of a list. Names are joined by dots, items of a "
        "list are counted from 0, as in data.train[0].limit.",
        "$ distilc check --set data.train[7].limit=100 spec.yaml",
        "$ distilc check --set data.train[0].limit=100 spec.yaml",
    ),
    "E306": Code(
        "a location in the site file does not exist",
        "The site file names a file or folder that does not exist on this machine.",
        "$ printf 'models: [modells]\\n' > site.yaml; distilc check --site site.yaml spec.yaml",
        "$ mkdir models; printf 'models: [models]\\n' > site.yaml; distilc check --site site.yaml spec.yaml",
    ),
    "E307": Code(
        "several machines and no hostfile",
        "More than one machine (`devices: {nodes: 2}`) needs a hostfile that names them.",
        "$ printf 'devices: {nodes: 2}\\n' > site.yaml; distilc check --site site.yaml spec.yaml",
        "$ printf 'a slots=1\\nb slots=1\\n' > hosts; printf 'devices: {nodes: 2, hostfile: hosts}\\n' > site.yaml; "
        "distilc check --site site.yaml spec.yaml",
    ),
    "E308": Code(
        "an impossible path",
        "A file or folder name that no file system accepts: longer than 255 bytes, or with a NUL in it.",
        'data: {train: {files: "rows\\0.jsonl"}}',
        'data: {train: {files: "rows.jsonl"}}',
    ),
    "E321": Code(
        "a hostfile that does not match the site",
        "A hostfile has one line `NAME slots=DEVICES` for each node, and comments that begin with #. Each node is "
        "named once, and there are as many nodes and devices as the site asks for.",
        "$ printf 'a slots=1\\nb lots=8\\n' > hosts; printf 'devices: {nodes: 2, per_node: 1, hostfile: hosts}\\n' > "
        "site.yaml; distilc check --site site.yaml spec.yaml",
        "$ printf 'a slots=1\\nb slots=8\\n' > hosts; printf 'devices: {nodes: 2, per_node: 1, hostfile: hosts}\\n' > "
        "site.yaml; distilc check --site site.yaml spec.yaml",
    ),
    "E316": Code(
        "two runs with the same name",
        "A run is named by its variant, its point of the matrix and its seed, and its folder by that name.",
        """\
seeds: [1, 2]
variants: {a: {}, a-seed1: {seeds: [3]}}""",
        """\
seeds: [1, 2]
variants: {a: {}, b: {seeds: [3]}}""",
    ),
    "W317": Code(
        "a variant is overridden by the matrix",
        "The matrix is laid over each variant, so the variant's own value of a varied path is never used.",
        """\
variants: {small: {student: {decoder_layers: 1}}, large: {}}
matrix: {student.decoder_layers: [1, 2]}""",
        """\
variants: {slow: {training: {learning_rate: 1.0e-5}}, fast: {}}
matrix: {student.decoder_layers: [1, 2]}""",
    ),
    "E318": Code(
        "a removed part is set again",
        "The matrix, or `--set`, is laid over every variant. If it sets a part of what a variant (or the spec, by "
        "`key: null`) removes, that part would be back in all of its runs, with default values, and the variant would "
        "not be what its name says. The same holds for a batch, a model or a data source of one kind that replaces "
        "the variant's own of another kind. A variant leaves a path of the matrix out with `matrix: {PATH: null}`, "
        "all of it with `matrix: null`.",
        """\
loss: {labels: 1.0, logits: 0.8}
variants: {sft: {loss: {logits: null}}, kd: {}}
matrix: {loss.logits.temperature: [1, 2]}""",
        """\
loss: {labels: 1.0, logits: 0.8}
variants: {sft: {loss: {logits: null}, matrix: null}, kd: {}}
matrix: {loss.logits.temperature: [1, 2]}""",
    ),
    "W319": Code(
        "one path replaces a whole mapping",
        "A path of `--set` or of the matrix names the key that decides the kind of a model, data source, batch or "
        "labeller. It replaces the whole mapping: nothing of the previous one is kept, such as how a model was "
        "trained or which labels were kept.",
        """\
$ distilc check --set data.train.builtin=bulletins spec.yaml
data: {train: {builtin: bulletins, limit: 100}}""",
        """\
$ distilc check --set 'data.train={builtin: bulletins, limit: 100}' spec.yaml
data: {train: {builtin: bulletins, limit: 100}}""",
    ),
    "W320": Code(
        "a removed part is back in a variant",
        "A spec removes something of the spec that it extends, by `key: null`. A variant of that spec sets it itself, "
        "and variants are laid over the result, so in that variant it is not removed.",
        """\
$ printf 'extends: base.yaml\\nloss: {logits: 0.8}\\nvariants: {kd: {loss: {logits: 0.5}}}\\n' > kd.yaml; distilc check spec.yaml
extends: kd.yaml
loss: {logits: null}""",
        """\
$ printf 'extends: base.yaml\\nloss: {logits: 0.8}\\nvariants: {kd: {loss: {logits: 0.5}}}\\n' > kd.yaml; distilc check spec.yaml
extends: kd.yaml
loss: {logits: null}
variants: {kd: {loss: {logits: null}}}""",
    ),
    # --- E4xx, W4xx: rules across fields, data ----------------------------------------------------
    "E311": Code(
        "a path that a matrix cannot vary",
        "The keys of `matrix` are dotted paths to values of a run. What makes the runs (`variants`, `matrix`, `seeds`), the name and the version are no such values; vary seeds with `seeds`.",
        "matrix: {seeds: [1, 2]}",
        "seeds: [1, 2]",
    ),
    "E312": Code(
        "an exclusion that excludes nothing",
        "Each entry of `matrix.exclude` names paths of the matrix, and for each a value that the matrix has.",
        """\
matrix:
  student.decoder_layers: [1, 3]
  exclude: [{student.decoder_layers: 2}]""",
        """\
matrix:
  student.decoder_layers: [1, 3]
  exclude: [{student.decoder_layers: 1}]""",
    ),
    "E313": Code(
        "too many runs, or none",
        "Variants, matrix and seeds multiply. A spec has at most 10,000 runs, and `exclude` leaves at least one.",
        """\
matrix:
  student.decoder_layers: [1, 3]
  exclude: [{student.decoder_layers: 1}, {student.decoder_layers: 3}]""",
        """\
matrix:
  student.decoder_layers: [1, 3]
  exclude: [{student.decoder_layers: 1}]""",
    ),
    "E314": Code(
        "`expect` names an unknown run",
        "`expect` names the `teacher`, the `student` of every run, a variant, a run by its name without the spec's, or its replicates by that name without the seed.",
        """\
variants: {narrow: {student: {decoder_layers: 1}}}
expect: {narow: {rouge2: 20.0}}""",
        """\
variants: {narrow: {student: {decoder_layers: 1}}}
expect: {narrow: {rouge2: 20.0}}""",
    ),
    "E315": Code(
        "a --set path that the matrix varies",
        "`--set` is laid over every run, so what the matrix varies would be the same in all of them.",
        """\
$ distilc check --set student.decoder_layers=2 spec.yaml
matrix: {student.decoder_layers: [1, 3]}""",
        """\
$ distilc check --set 'matrix.student.decoder_layers=[2]' spec.yaml
matrix: {student.decoder_layers: [1, 3]}""",
    ),
    # --- E4xx, W4xx: rules across fields -----------------------------------------------------------
    "E401": Code(
        "not available in this release",
        "A model of MLflow's registry. Its shape is in its config.json, which only the tracking server has, and the "
        "compiler asks no server of that kind; so it is refused rather than guessed. Download it and name its folder by "
        "`path`. A model that another spec trains needs no registry: `{spec: other.yaml}`.",
        "teacher: {mlflow: 'models:/bart-xsum/3'}",
        "teacher: {architecture: {family: marian, encoder_layers: 2, decoder_layers: 2, d_model: 64, heads: 2, ffn_dim: 128}, tokenizer: {vocab_size: 500}, train: {}}",
    ),
    "E402": Code(
        "a metric that does not fit the task",
        "ROUGE is for summaries (its tokenizer knows ASCII words only), BLEU and chrF for translations, accuracy "
        "for classes.",
        "evaluation: {metrics: [accuracy]}",
        "evaluation: {metrics: [rouge1, rouge2, rougeLsum]}",
    ),
    "E403": Code(
        "a deciding metric that is not measured",
        "`stopping.monitor` and the metrics of `stopping.retention` must be among `validation.metrics`.",
        "stopping: {monitor: rouge2}\nvalidation: {metrics: [loss]}",
        "stopping: {monitor: rouge2}\nvalidation: {metrics: [loss, rouge2]}",
    ),
    "E404": Code(
        "a key that nothing depends on",
        "A column or key of `data` that the task does not have, a language that neither the model's tokenizer nor a metric has a use for, or how a metric is computed that nobody measures. It would be ignored, so it is refused.",
        "data: {columns: {premise: text}}",
        "data: {columns: {source: text}}",
    ),
    "E405": Code(
        "source and target are the same column",
        "A model that reads what it has to write learns to copy.",
        "data: {columns: {source: text, target: text}}",
        "data: {columns: {source: text, target: summary}}",
    ),
    "E406": Code(
        "a split that is not there",
        "Files have no splits; a built-in corpus has train, validation and test.",
        "data: {test: {builtin: bulletins, split: dev}}",
        "data: {test: {builtin: bulletins, split: test}}",
    ),
    "E407": Code(
        "nothing stops the training",
        "All of `max_epochs`, `max_steps`, `max_hours`, `patience` and `retention` are off.",
        "stopping: {max_epochs: null, patience: null}",
        "stopping: {max_epochs: null, patience: 4}",
    ),
    "E408": Code(
        "min_length above max_length",
        "No text has at least `min_length` and at most `max_length` tokens.",
        "evaluation: {generation: {min_length: 60, max_length: 48}}",
        "evaluation: {generation: {min_length: 10, max_length: 48}}",
    ),
    "E409": Code(
        "nothing is learned",
        "Every term of the loss has the weight 0.",
        "loss: {labels: 0}",
        "loss: {labels: 1}",
    ),
    "E410": Code(
        "an untrained teacher",
        "A model from scratch has random weights. `train: {}` trains it first, with default settings.",
        "teacher:\n  train: null",
        "teacher:\n  train: {}",
    ),
    "E411": Code(
        "random weights would be frozen",
        "Random weights have to be trained: they cannot be in `freeze`.",
        "student: {init: {encoder: random}, freeze: [encoder]}",
        "student: {init: {encoder: random}, freeze: none}",
    ),
    "E412": Code(
        "a data file of an unknown kind",
        "The suffix of a data file says what it is: .jsonl and .ndjson (one JSON object a line), .json (a list of "
        "objects), .csv and .tsv (the columns in the first line; a .csv has double quotes around cells with a comma or a line "
        "break, a .tsv has no quoting at all), .parquet. Packed files (.gz, .zip) are unpacked first.",
        "data: {train: {files: train.txt}}",
        "data: {train: {files: train.jsonl}}",
    ),
    "E413": Code(
        "an option of another divergence",
        "`beta` belongs to jsd, `alpha` to skew-kl, `positions` to the task masked-lm, `candidates` to tasks that write texts. Elsewhere they would be ignored.",
        "loss: {labels: 1.0, logits: {weight: 0.8, alpha: 0.1}}",
        "loss: {labels: 1.0, logits: {weight: 0.8, divergence: skew-kl, alpha: 0.1}}",
    ),
    "E414": Code(
        "an unknown target",
        "`targets` lists `original` and names of `pseudo_labels`. Labellers write texts, for summarization and "
        "translation.",
        """\
pseudo_labels: {own: {by: teacher}}
targets: [original, onw, own]""",
        """\
pseudo_labels: {own: {by: teacher}}
targets: [original, own]""",
    ),
    "E415": Code(
        "an unused labeller",
        "Writing labels costs many GPU hours, so a labeller that no run names in `targets` is an error.",
        "pseudo_labels: {own: {by: teacher}}",
        """\
pseudo_labels: {own: {by: teacher}}
targets: [own]""",
    ),
    "E416": Code(
        "`expect` names an unknown test set",
        "With several test sets, a published score belongs to one of them: `TEST SET.METRIC`, as `data.test` names "
        "them.",
        "expect: {teacher: {hard.rouge2: 20.0}}",
        "expect: {teacher: {test.rouge2: 20.0}}",
    ),
    "E417": Code(
        "both a single text and a pair",
        "A classification reads `text`, or `premise` and `hypothesis`. With both, one would be ignored.",
        """\
$ mkdir m; echo '{"model_type": "bart"}' > m/config.json; distilc check spec.yaml
version: 1
name: x
task: classification
teacher: ./m
student: {decoder_layers: 3}
data: {train: {hub: a/b}, validation: {hub: a/b}, test: {hub: a/b}, columns: {text: text, premise: premise}}""",
        """\
$ mkdir m; echo '{"model_type": "bart"}' > m/config.json; distilc check spec.yaml
version: 1
name: x
task: classification
teacher: ./m
student: {decoder_layers: 3}
data: {train: {hub: a/b}, validation: {hub: a/b}, test: {hub: a/b}, columns: {premise: premise, hypothesis: hypothesis}}""",
    ),
    "E418": Code(
        "shares of more than 100 %",
        "Of the tokens that are predicted, `masked` percent are masked and `random` percent are replaced; the rest is "
        "kept. Together the two are at most 100.",
        """\
$ mkdir m; echo '{"model_type": "bert"}' > m/config.json; distilc check spec.yaml
version: 1
name: x
task: masked-lm
teacher: ./m
student: {encoder_layers: 6}
data: {train: {hub: a/b}, validation: {hub: a/b}, test: {hub: a/b}, masking: {masked: 80, random: 30}}""",
        """\
$ mkdir m; echo '{"model_type": "bert"}' > m/config.json; distilc check spec.yaml
version: 1
name: x
task: masked-lm
teacher: ./m
student: {encoder_layers: 6}
data: {train: {hub: a/b}, validation: {hub: a/b}, test: {hub: a/b}, masking: {masked: 80, random: 20}}""",
    ),
    "E419": Code(
        "a file instead of a hub data set",
        "`hub` names a data set on the hub; a file of this machine is named with `files`. A name that ends like a "
        "data file, or that exists beside the spec, is taken for a file.",
        "data: {train: {hub: train.csv}}",
        "data: {train: {files: train.csv}}",
    ),
    "E421": Code(
        "a data file that cannot be read",
        "A data file is UTF-8, and what its suffix says: .jsonl has one JSON object a line, .csv commas and .tsv tabs "
        "between the cells, and as many cells in each row as names in the first line. No name stands twice. "
        "(`check --data`)",
        "$ echo 'A cat.' > rows.jsonl; distilc check --data spec.yaml\ndata: {test: {files: rows.jsonl}}",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
    ),
    "E422": Code(
        "a missing column",
        "`data.columns` says which column holds what, and the `columns` of a labeller likewise for its file; a row "
        "lacks one, or holds null or no text in it. (`check --data`)",
        """$ echo '{"text": "A cat sat.", "summary": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}, columns: {source: texts, target: summary, id: null}}""",
        """$ echo '{"text": "A cat sat.", "summary": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}, columns: {source: text, target: summary, id: null}}""",
    ),
    "E423": Code(
        "an empty source or target",
        "A row of a data file has no text to read, or none to learn. (`check --data`)",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": ""}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
    ),
    "E424": Code(
        "a data source without rows",
        "The files are there and hold no rows. (`check --data`)",
        "$ echo > rows.jsonl; distilc check --data spec.yaml\ndata: {test: {files: rows.jsonl}}",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
    ),
    "E425": Code(
        "a duplicate id",
        "Predictions and labels are aligned by id. Leave `columns.id` out to count the rows instead. (`check --data`)",
        """$ yes '{"id": 1, "source": "A cat sat.", "target": "A cat."}' | head -2 > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
        """$ yes '{"id": 1, "source": "A cat sat.", "target": "A cat."}' | head -2 > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}, columns: {id: null}}""",
    ),
    "W401": Code(
        "testing on training data",
        "`validation` or `test` reads what `train` reads: scores on it say nothing about other texts.",
        "data: {test: {builtin: bulletins, split: train}}",
        "data: {test: {builtin: bulletins, split: test}}",
    ),
    "W402": Code(
        "a validation or patience that is never reached",
        "The training ends before its first validation, or before the patience can run out.",
        "stopping: {max_epochs: 1, patience: 8}\nvalidation: {every: {epochs: 0.25}}",
        "stopping: {max_epochs: 4, patience: 8}\nvalidation: {every: {epochs: 0.25}}",
    ),
    "W403": Code(
        "a warm-up longer than the training",
        "The learning rate never reaches its maximum.",
        "training: {warmup: {steps: 500}}\nstopping: {max_steps: 200}",
        "training: {warmup: {ratio: 0.1}}\nstopping: {max_steps: 200}",
    ),
    "E426": Code(
        "a label that is none of `data.labels`",
        "A row of a classification has a label by name, one of `data.labels`, or by number, counted from 0. (`check --data`)",
        """$ echo '{"id": 1, "text": "It rained.", "label": "wet"}' > rows.jsonl; mkdir m; echo '{"model_type": "bart"}' > m/config.json; distilc check --data spec.yaml
version: 1
name: x
task: classification
teacher: ./m
student: {decoder_layers: 3}
data: {train: {files: rows.jsonl}, validation: {files: rows.jsonl}, test: {files: rows.jsonl}, labels: [dry, rainy], columns: {text: text}}""",
        """$ echo '{"id": 1, "text": "It rained.", "label": "rainy"}' > rows.jsonl; mkdir m; echo '{"model_type": "bart"}' > m/config.json; distilc check --data spec.yaml
version: 1
name: x
task: classification
teacher: ./m
student: {decoder_layers: 3}
data: {train: {files: rows.jsonl}, validation: {files: rows.jsonl}, test: {files: rows.jsonl}, labels: [dry, rainy], columns: {text: text}}""",
    ),
    "E427": Code(
        "labels or predictions of other rows",
        "A file of labels is aligned with the training data by id, and has an id that none of the training rows has. "
        "Looked for where all training data are local files with `columns.id` and without `limit`. A file of "
        "predictions (`baselines`) has other rows than its test set, by id or, without ids, by their number. "
        "(`check --data`)",
        """\
$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; echo '{"id": 2, "text": "A dog."}' > labels.jsonl; distilc check --data spec.yaml
data: {train: {files: rows.jsonl}, columns: {id: id}}
pseudo_labels: {dump: {file: labels.jsonl}}
targets: [original, dump]""",
        """\
$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; echo '{"id": 1, "text": "A dog."}' > labels.jsonl; distilc check --data spec.yaml
data: {train: {files: rows.jsonl}, columns: {id: id}}
pseudo_labels: {dump: {file: labels.jsonl}}
targets: [original, dump]""",
    ),
    "E591": Code(
        "a schedule that ends before it begins",
        "A number of the loss that changes is `from` until `begin` and `to` from `end` on. The two are compared where "
        "they can be: both in epochs, both in steps, or as shares of a training whose length is known.",
        """\
loss:
  labels: 1.0
  logits: {weight: {from: 0.0, to: 0.8, begin: {epochs: 2}, end: {epochs: 1}}}""",
        """\
loss:
  labels: 1.0
  logits: {weight: {from: 0.0, to: 0.8, begin: {epochs: 1}, end: {epochs: 2}}}""",
    ),
    "E592": Code(
        "a weight that is always 0",
        "A schedule that is 0 from the first step to the last: the term would never count.",
        "loss: {labels: 1.0, logits: {weight: {from: 0.0, to: 0.0}}}",
        "loss: {labels: 1.0, logits: {weight: {from: 0.0, to: 0.8}}}",
    ),
    "E593": Code(
        "an `end` of a step",
        "A schedule with `shape: step` is `from` up to and with the step that `begin` names, and `to` afterwards. "
        "There is no transition that could end.",
        """\
loss:
  labels: 1.0
  logits: {weight: {from: 0.0, to: 0.8, shape: step, begin: {epochs: 1}, end: {epochs: 2}}}""",
        """\
loss:
  labels: 1.0
  logits: {weight: {from: 0.0, to: 0.8, shape: step, begin: {epochs: 1}}}""",
    ),
    "E594": Code(
        "candidates for a divergence that needs all tokens",
        "`candidates` keeps a few of the teacher's next tokens: the most probable ones and the rest as one outcome, "
        "or draws. forward-kl and skew-kl are expectations over the teacher's distribution, for which these suffice. "
        "reverse-kl and jsd are also expectations over the student's: they penalise probability that the student "
        "gives to other tokens, which candidates cannot show.",
        "loss: {labels: 1.0, logits: {weight: 0.8, divergence: reverse-kl, candidates: {top_k: 8}}}",
        "loss: {labels: 1.0, logits: {weight: 0.8, divergence: reverse-kl}}",
    ),
    "E595": Code(
        "candidates that cannot be kept",
        "Candidates are kept with their probabilities at one temperature, so the temperature may not change while the student is "
        "trained. And there must be fewer of them than there are tokens that both models have.",
        """\
loss:
  labels: 1.0
  logits: {weight: 0.8, temperature: {from: 4.0, to: 2.0}, candidates: {top_k: 8}}""",
        """\
loss:
  labels: 1.0
  logits: {weight: 0.8, temperature: 2.0, candidates: {top_k: 8}}""",
    ),
    "E596": Code(
        "adafactor with ZeRO",
        "Adafactor keeps a mean for each row and each column of a weight. From ZeRO stage 1 on, the optimizer of a "
        "device steps on its shard of all weights, flattened, which has neither rows nor columns, so the result would "
        "depend on the stage and on the number of devices. Adafactor is supported in fp32 with stage 0, where every "
        "device has the whole weights.",
        """\
$ echo '{zero: 2}' > site.yaml; distilc check --site site.yaml spec.yaml
training: {optimizer: {name: adafactor}}""",
        """\
$ echo '{zero: auto}' > site.yaml; distilc check --site site.yaml spec.yaml
training: {optimizer: {name: adafactor}}""",
    ),
    "W595": Code(
        "candidates that take more space than the exact form",
        "The exact distribution of a token is one matrix product away from the decoder's state, which is kept where "
        "that is faster. A candidate takes 8 bytes; with many of them, or a narrow teacher, the exact states are "
        "smaller, and nothing is lost.",
        "loss: {labels: 1.0, logits: {weight: 0.8, candidates: {top_k: 300}}}",
        "loss: {labels: 1.0, logits: {weight: 0.8, candidates: {top_k: 8}}}",
    ),
    "W591": Code(
        "a schedule that outlasts the training",
        "A weight or the temperature has not reached its last value when the training ends, or has not begun to "
        "change. This is about the limits of a training, not about one that `patience` ends earlier.",
        """\
loss: {labels: 1.0, logits: {weight: {from: 0.0, to: 0.8, end: {steps: 5000}}}}
stopping: {max_steps: 1000}""",
        """\
loss: {labels: 1.0, logits: {weight: {from: 0.0, to: 0.8, end: {ratio: 0.5}}}}
stopping: {max_steps: 1000}""",
    ),
    "W411": Code(
        "the last layer is not supervised",
        "The code of 2020 compared the inputs of layers: its last student layer was never supervised, and its first pair was the embeddings. `align: inputs` repeats that.",
        "loss: {labels: 1.0, hidden: {decoder: 3.0, align: inputs}}",
        "loss: {labels: 1.0, hidden: {decoder: 3.0}}",
    ),
    "W413": Code(
        "pseudo-labels that are known to hurt",
        "On CNN/DailyMail every mix with pseudo-labels scored below the original targets (arXiv 2010.13002, Table 10).",
        """\
data: {train: {hub: abisee/cnn_dailymail, config: 3.0.0, split: train}}
pseudo_labels: {own: {by: teacher}}
targets: [own]""",
        "data: {train: {hub: abisee/cnn_dailymail, config: 3.0.0, split: train}}",
    ),
    "W414": Code(
        "a distribution over another model's texts",
        "The term `logits` asks the teacher for the next token. Texts that another model wrote are outside its own "
        "distribution.",
        """\
$ mkdir m; echo '{"model_type": "marian"}' > m/config.json; distilc check spec.yaml
loss: {labels: 1.0, logits: 0.8}
pseudo_labels: {other: {by: ./m}}
targets: [other]""",
        """\
$ mkdir m; echo '{"model_type": "marian"}' > m/config.json; distilc check spec.yaml
loss: {labels: 1.0}
pseudo_labels: {other: {by: ./m}}
targets: [other]""",
    ),
    "W416": Code(
        "a published score that is not measured",
        "A published score can be compared only if the evaluation measures that metric.",
        "expect: {teacher: {bleu: 20.0}}",
        "expect: {teacher: {rouge2: 20.0}}",
    ),
    "W415": Code(
        "an unused φ",
        "φ pairs the layers for the terms `hidden` and `attention`. No run has one of them.",
        "phi: {decoder: block-ends}",
        """\
phi: {decoder: block-ends}
loss: {labels: 1.0, hidden: {decoder: 3.0}}""",
    ),
    "W417": Code(
        "a task that this release cannot run",
        "The language, the checks and the plans know the task; the run half has no code for it yet, and `distilc run` "
        "refuses the plan with R106 before anything starts.",
        """\
task: classification
data: {columns: {text: text, label: label}, labels: [good, bad]}
evaluation: {metrics: [accuracy]}""",
        "task: summarization",
    ),
    "W422": Code(
        "a file that was not opened",
        "Parquet files need libraries that take seconds to load; `check` does without them. The run opens them "
        "before it trains. (`check --data`)",
        """$ echo PAR1 > rows.parquet; distilc check --data spec.yaml
data: {test: {files: rows.parquet}}""",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
    ),
    "W423": Code(
        "training rows without a label",
        "A file of labels does not have all ids of the training data: what it lacks is left out of its targets. "
        "(`check --data`)",
        """\
$ for i in 1 2; do echo '{"id": '$i', "source": "A cat sat.", "target": "A cat."}'; done > rows.jsonl; echo '{"id": 1, "text": "A dog."}' > labels.jsonl; distilc check --data spec.yaml
data: {train: {files: rows.jsonl}, columns: {id: id}}
pseudo_labels: {dump: {file: labels.jsonl}}
targets: [original, dump]""",
        """\
$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; echo '{"id": 1, "text": "A dog."}' > labels.jsonl; distilc check --data spec.yaml
data: {train: {files: rows.jsonl}, columns: {id: id}}
pseudo_labels: {dump: {file: labels.jsonl}}
targets: [original, dump]""",
    ),
    "E428": Code(
        "a deciding score that cannot see the texts",
        "ROUGE's own tokenizer knows the letters a to z alone, and BLEU's expects spaces between words. For texts "
        "mostly in other letters (or in scripts without spaces) every score is 0 or close to it: it must not stop a "
        "training, choose a checkpoint or drop labels. (`check --data`; `run` reports it too.)",
        """$ echo '{"id": 1, "source": "Шёл дождь. Школа закрыта.", "target": "Дождь закрыл школу."}' > rows.jsonl; distilc check --data spec.yaml
data: {validation: {files: rows.jsonl}}
validation: {metrics: [loss, rouge2]}""",
        """$ echo '{"id": 1, "source": "Шёл дождь. Школа закрыта.", "target": "Дождь закрыл школу."}' > rows.jsonl; distilc check --data spec.yaml
data: {validation: {files: rows.jsonl}}
validation: {metrics: [loss, rouge2]}
evaluation: {rouge: {tokenizer: unicode}}""",
    ),
    "W424": Code(
        "a score that cannot see the texts",
        "Like E428, for scores that are only shown. (`check --data`)",
        """$ echo '{"id": 1, "source": "Шёл дождь. Школа закрыта.", "target": "Дождь закрыл школу."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
        """$ echo '{"id": 1, "source": "Шёл дождь. Школа закрыта.", "target": "Дождь закрыл школу."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}
evaluation: {rouge: {tokenizer: unicode}}""",
    ),
    "W425": Code(
        "the name of a control token in a text",
        "Many tokenizers read `</s>`, `<pad>`, `[SEP]` and the like in a text as the end, the padding or the mask of "
        "a sequence. What follows is lost, or the model learns to end there. (`check --data`; `run` looks for the "
        "tokens of the model itself.)",
        """$ echo '{"id": 1, "source": "A cat sat.</s>", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}}""",
    ),
    "W426": Code(
        "test sources that are also trained on",
        "Rows of a test set have the same source as a training row. (`check --data`; `run` reports it too.)",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > a.jsonl; cp a.jsonl b.jsonl; distilc check --data spec.yaml
data: {train: {files: a.jsonl}, test: {files: b.jsonl}}""",
        """$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > a.jsonl; echo '{"id": 2, "source": "A dog ran.", "target": "A dog."}' > b.jsonl; distilc check --data spec.yaml
data: {train: {files: a.jsonl}, test: {files: b.jsonl}}""",
    ),
    "W421": Code(
        "many texts are truncated",
        "More than 5 % of the texts of a file have more words than the limit has tokens, so they are certainly "
        "truncated; texts with fewer words may be truncated too. (`check --data`)",
        """$ echo '{"id": 1, "source": "A cat sat on a mat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}, max_source_tokens: 4}""",
        """$ echo '{"id": 1, "source": "A cat sat on a mat.", "target": "A cat."}' > rows.jsonl; distilc check --data spec.yaml
data: {test: {files: rows.jsonl}, max_source_tokens: 64}""",
    ),
    "E431": Code(
        "a spec that is named as a model does not exist",
        "`{spec: other.yaml}` is the student that another spec trains. The path is relative to the file that contains "
        "it, as with `extends`.",
        "teacher: {spec: bsae.yaml}",
        "teacher: {spec: base.yaml}",
    ),
    "E432": Code(
        "a file that is named as a model is not a spec",
        "`spec` names a spec, one of whose runs makes the model. A folder with a model is named by `path`.",
        """\
$ echo 'jobs: {}' > jobs.yaml && distilc check spec.yaml
teacher: {spec: jobs.yaml}""",
        "teacher: {spec: base.yaml}",
    ),
    "E433": Code(
        "a spec with several runs is named as a model",
        "Variants, a matrix and seeds make several runs of a spec, and each trains its own student. `variant` selects "
        "one: a variant that is a single run, or a run by its name without the name of the spec.",
        "variants: {large: {}, small: {teacher: {spec: spec.yaml}}}",
        "variants: {large: {}, small: {teacher: {spec: spec.yaml, variant: large}}}",
    ),
    "E434": Code(
        "an unknown run of the named spec",
        "`variant` beside `spec` is a variant of that spec, or one of its runs by its name without the name of the "
        "spec, as `distilc explain` shows it.",
        "variants: {large: {}, small: {teacher: {spec: spec.yaml, variant: larger}}}",
        "variants: {large: {}, small: {teacher: {spec: spec.yaml, variant: large}}}",
    ),
    "E435": Code(
        "runs that depend on each other",
        "Runs can use models of runs of other specs, and of other runs of their own file; but no run can depend on "
        "its own result.",
        "variants: {large: {}, small: {teacher: {spec: spec.yaml, variant: small}}}",
        "variants: {large: {}, small: {teacher: {spec: spec.yaml, variant: large}}}",
    ),
    "E436": Code(
        "a model that another spec trains for another task",
        "A teacher or labeller does what the run does: the same task, and the same classes in the same order. A teacher "
        "that is trained further here (`train`) may go between summarization and translation; of a model that only "
        "gives layers (`student.init`), any task will do.",
        "task: translation\ndata: {source_language: en, target_language: de}\nteacher: {spec: base.yaml}",
        "teacher: {spec: base.yaml}",
    ),
    "W431": Code(
        "a model that another spec trains on other inputs",
        "The language, or the prefix before the source, is not the one that the teacher or labeller was trained with.",
        "data: {prefix: 'summarize: '}\nteacher: {spec: base.yaml}",
        "teacher: {spec: base.yaml}",
    ),
    # --- E5xx: lowering ---------------------------------------------------------------------------
    "E501": Code(
        "a model cannot be found",
        "A `path` is a folder with config.json, weights and tokenizer files, relative to the spec. A hub id is looked "
        "for in the folders given with --models, in the hub's local cache and, unless offline, on the hub. Of some "
        "well-known models the shape is known without any of them; such a model has no key until it is there.",
        "teacher: {path: ./my-model}",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E502": Code(
        "a model folder is damaged",
        "config.json is missing, truncated, or has values of the wrong type: often an interrupted download.",
        """\
$ mkdir my-model; echo '{"model_type": "ba' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E503": Code(
        "a family that is not supported",
        "The families are bart, bert, distilbert, marian, mbart, pegasus, roberta and t5: where their layers, embeddings "
        "and positions lie is known. The family is `model_type` in config.json.",
        """\
$ mkdir my-model; echo '{"model_type": "gpt2"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "t5"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E504": Code(
        "a family that cannot be built from scratch",
        "mBART and the BERT family need the tokenizers that their checkpoints were trained with, so they exist only as "
        "finished models. From scratch: bart, marian, pegasus, t5.",
        "teacher: {architecture: {family: mbart}}",
        "teacher: {architecture: {family: bart}}",
    ),
    "E505": Code(
        "incompatible widths",
        "The width d_model is cut into `heads` equal parts, so it is a multiple of heads; sinusoidal positions (marian, "
        "pegasus) need an even one.",
        "teacher: {architecture: {d_model: 128, heads: 3}}",
        "teacher: {architecture: {d_model: 126, heads: 3}}",
    ),
    "E508": Code(
        "a data file does not exist",
        "Files of data sources are relative to the spec that names them; `${paths.NAME}` is replaced by a folder of "
        "the site.",
        "data: {train: {files: rows.jsonl}}",
        """\
$ echo '{"id": 1, "source": "a b", "target": "a"}' > rows.jsonl; distilc check spec.yaml
data: {train: {files: rows.jsonl}}""",
    ),
    "E510": Code(
        "retention in the teacher's own training",
        "`stopping.retention` ends a training when a percentage of the teacher's score is reached. The teacher's own "
        "training has nothing to compare with.",
        "teacher: {train: {stopping: {retention: {rouge2: 99}}, validation: {metrics: [loss, rouge2]}}}",
        "teacher: {train: {stopping: {patience: 4}, validation: {metrics: [loss, rouge2]}}}",
    ),
    "E511": Code(
        "fp16 overflows in this family",
        "Activations of pegasus and t5 models leave the range of fp16: the loss becomes NaN, sooner or later. bf16 has "
        "the range of fp32 and costs what fp16 costs.",
        """\
$ mkdir my-model; echo '{"model_type": "t5"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}
precision: fp16""",
        """\
$ mkdir my-model; echo '{"model_type": "t5"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}
precision: bf16""",
    ),
    "E512": Code(
        "a precision that the device does not support",
        "fp16 needs a GPU, bf16 on a GPU an Ampere or newer one. `precision: auto` takes bf16 where there is one, "
        "else fp32.",
        """\
$ echo 'devices: {kind: cuda, name: V100}' > site.yaml; distilc check --site site.yaml spec.yaml
precision: bf16""",
        """\
$ echo 'devices: {kind: cuda, name: V100}' > site.yaml; distilc check --site site.yaml spec.yaml
precision: auto""",
    ),
    "E513": Code(
        "sequences longer than the model's positions",
        "The model has a table of positions (max_position_embeddings in config.json); a longer sequence would read "
        "beyond its end.",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}
data: {max_source_tokens: 2048}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}
data: {max_source_tokens: 1024}""",
    ),
    "E514": Code(
        "an impossible offload",
        "`offload` of the site moves the optimizer (ZeRO 1 or more) or the parameters as well (ZeRO 3) from GPU "
        "memory to host memory. The optimizer is then DeepSpeed's CPU Adam.",
        "$ echo '{offload: optimizer, zero: 0, devices: {kind: cuda}}' > site.yaml; distilc check --site site.yaml spec.yaml",
        "$ echo '{offload: optimizer, zero: auto, devices: {kind: cuda}}' > site.yaml; distilc check --site site.yaml spec.yaml",
    ),
    "E515": Code(
        "a missing language",
        "mBART marks every sequence with the code of its language, and generation starts with that of the target's.",
        """\
$ mkdir my-model; echo '{"model_type": "mbart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}
data: {source_language: en_XX}""",
        """\
$ mkdir my-model; echo '{"model_type": "mbart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}
data: {source_language: en_XX, target_language: ro_RO}""",
    ),
    "E545": Code(
        "a language that the model does not write",
        "A Marian model of several languages is told which one to write by a token before the source, `>>ron<<`. It comes from `data.target_language`, and its vocabulary has it.",
        """\
$ mkdir m; echo '{"model_type": "marian"}' > m/config.json; echo '{"<pad>": 0, ">>ron<<": 1, ">>fra<<": 2}' > m/vocab.json; distilc check spec.yaml
teacher: {path: ./m}
data: {target_language: ro}""",
        """\
$ mkdir m; echo '{"model_type": "marian"}' > m/config.json; echo '{"<pad>": 0, ">>ron<<": 1, ">>fra<<": 2}' > m/vocab.json; distilc check spec.yaml
teacher: {path: ./m}
data: {target_language: ron}""",
    ),
    "W515": Code(
        "a multilingual model without a target language",
        "A Marian model of several languages writes the one whose token its source begins with. Where `data.target_language` does not say it, the sources themselves must begin with it.",
        """\
$ mkdir m; echo '{"model_type": "marian"}' > m/config.json; echo '{"<pad>": 0, ">>ron<<": 1, ">>fra<<": 2}' > m/vocab.json; distilc check spec.yaml
teacher: {path: ./m}""",
        """\
$ mkdir m; echo '{"model_type": "marian"}' > m/config.json; echo '{"<pad>": 0, ">>ron<<": 1, ">>fra<<": 2}' > m/vocab.json; distilc check spec.yaml
teacher: {path: ./m}
data: {target_language: ron}""",
    ),
    "E546": Code(
        "a missing tokenizer of BLEU",
        "BLEU of Japanese and Korean needs Mecab, that of flores101 and flores200 models that sacrebleu downloads. "
        "They are not on this machine, and the end of a run would be a bad time to notice.",
        "evaluation: {metrics: [bleu], bleu: {tokenize: ko-mecab}}",
        "evaluation: {metrics: [bleu], bleu: {tokenize: char}}",
    ),
    "E516": Code(
        "16 bits without ZeRO",
        "DeepSpeed's ZeRO stage 0 accumulates gradients and steps in 16 bits: the losses leave those of an fp32 run. From "
        "stage 1 on, gradients are summed and weights are kept in fp32. One device loses nothing by stage 1.",
        """\
$ echo '{zero: 0}' > site.yaml; distilc check --site site.yaml spec.yaml
precision: bf16""",
        """\
$ echo '{zero: auto}' > site.yaml; distilc check --site site.yaml spec.yaml
precision: bf16""",
    ),
    "E517": Code(
        "no lock to compare with",
        "`compile --locked` compares the plan with the lock.yaml that an earlier compilation wrote into its folder. "
        "There is none, or it is damaged or of another version.",
        "$ distilc compile --locked spec.yaml",
        "$ distilc compile spec.yaml; distilc compile --locked spec.yaml",
    ),
    "E518": Code(
        "something changed since the lock",
        "The resolved spec, a model, a data file or the version of a package is not what lock.yaml says.",
        "$ distilc compile spec.yaml; distilc compile --locked --set batch.examples=8 spec.yaml",
        "$ distilc compile --set batch.examples=8 spec.yaml; distilc compile --locked --set batch.examples=8 spec.yaml",
    ),
    "E521": Code(
        "a student deeper than its origin",
        "A stack of the student has at most as many layers as the model that they are copied from.",
        "student: {decoder_layers: 9}",
        "student: {decoder_layers: 4}",
    ),
    "E522": Code(
        "a layer that does not exist",
        "Layers are counted from 0, so a stack of 6 has the layers 0 to 5.",
        "student: {init: {decoder: {layers: [0, 6]}}}",
        "student: {init: {decoder: {layers: [0, 5]}}}",
    ),
    "E523": Code(
        "a list of layers of the wrong length",
        "A list of layers names one for each layer of the student; a layer may be named more than once. `all` is for "
        "stacks of equal depth.",
        "student: {init: {decoder: {layers: [0, 2, 5]}}}",
        "student: {decoder_layers: 3, init: {decoder: {layers: [0, 2, 5]}}}",
    ),
    "E524": Code(
        "a φ that cannot be applied",
        "`every-kth` needs a student depth that divides the teacher's; `copied-from` needs layers that were copied from "
        "the teacher.",
        "student: {decoder_layers: 4}\nphi: {decoder: every-kth}",
        "student: {decoder_layers: 3}\nphi: {decoder: every-kth}",
    ),
    "E525": Code(
        "copies between different widths",
        "Weights are copied as they are, so d_model, heads and ffn_dim of a copied stack, and d_model for the embeddings, "
        "are the origin's: the teacher's, or those of the model in `from`.",
        "student: {ffn_dim: 256}",
        "student: {ffn_dim: 256, init: {encoder: random, decoder: random}}",
    ),
    "E526": Code(
        "copies between different families",
        "Layers of one family have no place for the weights of another, nor plain T5 layers for gated ones. Only a "
        "DistilBERT takes layers of another family: BERT's.",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
student: {init: {decoder: {from: {path: ./my-model}}}}""",
        "student: {init: {decoder: {from: teacher}}}",
    ),
    "E527": Code(
        "a term for a missing stack",
        "Encoder-only models have no decoder whose states could be compared.",
        """\
$ mkdir m; echo '{"model_type": "bert"}' > m/config.json; distilc check spec.yaml
version: 1
name: x
task: masked-lm
teacher: ./m
student: {encoder_layers: 6}
data: {train: {files: base.yaml}, validation: {files: base.yaml}, test: {files: base.yaml}}
loss: {labels: 1.0, hidden: {decoder: 1.0}}""",
        """\
$ mkdir m; echo '{"model_type": "bert"}' > m/config.json; distilc check spec.yaml
version: 1
name: x
task: masked-lm
teacher: ./m
student: {encoder_layers: 6}
data: {train: {files: base.yaml}, validation: {files: base.yaml}, test: {files: base.yaml}}
loss: {labels: 1.0, hidden: {encoder: 1.0}}""",
    ),
    # --- E56x: names on the command line ------------------------------------------------------------
    "E541": Code(
        "more memory than the devices have",
        "A training does not fit into the memory of the site's devices, however it is sharded and however small the "
        "micro-batches are. `distilc explain` shows the parts for a site on which it fits.",
        "$ echo '{devices: {kind: cuda, memory_gb: 1}}' > site.yaml; distilc check --site site.yaml spec.yaml",
        "$ echo '{devices: {kind: cuda, memory_gb: 8}}' > site.yaml; distilc check --site site.yaml spec.yaml",
    ),
    "E561": Code(
        "no run with this name",
        "`--only PATTERN` (of `diff`: `SPEC#PATTERN`) chooses runs by name. A pattern with `*`, `?` or `[` is matched "
        "against the full name of each run and against its label, which is the name without the spec's; any other "
        "pattern must equal one of them.",
        """\
$ distilc explain spec.yaml --only kb
variants: {kd: {precision: fp32}, sft: {}}""",
        """\
$ distilc explain spec.yaml --only kd
variants: {kd: {precision: fp32}, sft: {}}""",
    ),
    "E562": Code(
        "the plan cannot be read",
        "A plan folder holds plan.json. It is not there, it is damaged, or another version of distilc wrote it.",
        "$ mkdir plans; echo '{' > plans/plan.json; distilc diff spec.yaml plans",
        "$ distilc compile spec.yaml -o plans; distilc diff spec.yaml plans",
    ),
    "E563": Code(
        "nothing with this name to compare",
        "`diff` compares specs, plan folders, and runs of the workspace by name. A file or folder of this name comes "
        "first; then the folders under runs/ and plans/ of the workspace.",
        "$ distilc diff spec.yaml spek.yaml",
        "$ distilc diff spec.yaml base.yaml",
    ),
    "E564": Code(
        "several runs with this name",
        "A run's folder is named by the run and the first digits of its key, so a changed spec makes another folder "
        "of the same name. The name alone is then ambiguous.",
        """\
$ distilc compile spec.yaml -o p; for k in 1a2b3c4d 5e6f7a8b; do mkdir -p .distilc/runs; cp -r p/* .distilc/runs/x-$k; done; distilc diff x spec.yaml""",
        """\
$ distilc compile spec.yaml -o p; for k in 1a2b3c4d 5e6f7a8b; do mkdir -p .distilc/runs; cp -r p/* .distilc/runs/x-$k; done; distilc diff x-1a2b3c4d spec.yaml""",
    ),
    "E565": Code(
        "no stage with this name",
        "`explain --why STAGE` takes the name of a stage as `explain` lists them.",
        "$ distilc explain spec.yaml --why trian",
        "$ distilc explain spec.yaml --why train",
    ),
    "E571": Code(
        "an engine that cannot do it",
        "ctranslate2 has models of the families bart, mbart, pegasus, marian and t5, and searches for the best tokens: "
        "it can draw them, but not so that the same seed gives the same texts however the work is shared out.",
        "evaluation: {generation: {engine: ctranslate2, sampling: {seed: 1}}}",
        "evaluation: {generation: {engine: transformers, sampling: {seed: 1}}}",
    ),
    "E572": Code(
        "an unsupported compute type",
        "`compute_type` is ctranslate2's. On a CPU it calculates in fp32 and int8, on a GPU in fp16 and bf16 too. "
        "transformers calculates in the run's `precision`.",
        "evaluation: {generation: {engine: transformers, compute_type: int8}}",
        "evaluation: {generation: {engine: ctranslate2, compute_type: int8}}",
    ),
    "E573": Code(
        "sampling with beams",
        "Sampling draws one token after the other; a beam search looks for the best text. Choose one of them.",
        "evaluation: {generation: {beams: 4, sampling: {top_p: 0.9}}}",
        "evaluation: {generation: {beams: 1, sampling: {top_p: 0.9}}}",
    ),
    "E574": Code(
        "an engine for validation",
        "During training the model is in memory and changes; validation generates with it there, by transformers.",
        "validation: {generation: {engine: ctranslate2}}",
        "evaluation: {generation: {engine: ctranslate2}}",
    ),
    "E575": Code(
        "more beams than tokens",
        "A beam search keeps the best partial texts, at first of one token each: there are no more of these than "
        "tokens in the vocabulary.",
        "teacher: {architecture: {family: marian, encoder_layers: 2, decoder_layers: 2, d_model: 64, heads: 2, ffn_dim: 128}, tokenizer: {vocab_size: 500}, train: {}}\nevaluation: {generation: {beams: 600}}",
        "teacher: {architecture: {family: marian, encoder_layers: 2, decoder_layers: 2, d_model: 64, heads: 2, ffn_dim: 128}, tokenizer: {vocab_size: 500}, train: {}}\nevaluation: {generation: {beams: 6}}",
    ),
    "E577": Code(
        "labels by the student",
        "The student is trained on the labels, so they have to exist before it. The teacher writes them, or an "
        "existing model, or one that another spec trains.",
        """\
pseudo_labels: {own: {by: student}}
targets: [original, own]""",
        """\
pseudo_labels: {own: {by: teacher}}
targets: [original, own]""",
    ),
    "W575": Code(
        "a model folder without weights",
        "The folder has a config.json and neither model.safetensors (or its shards) nor pytorch_model.bin. Shapes, "
        "plans and estimates need no weights, so this is a warning; `run` needs them.",
        """\
$ mkdir m; echo '{"model_type": "bart"}' > m/config.json; distilc check spec.yaml
teacher: {architecture: null, tokenizer: null, train: null, path: ./m}""",
        """\
$ mkdir m; echo '{"model_type": "bart"}' > m/config.json; touch m/model.safetensors; distilc check spec.yaml
teacher: {architecture: null, tokenizer: null, train: null, path: ./m}""",
    ),
    "W576": Code(
        "a `step` that is over before the first step",
        "A schedule of the shape `step` is `from` up to `begin`, and `to` after it. Without `begin`, or with 0, it "
        "never is `from`.",
        "loss: {labels: 1.0, logits: {weight: {from: 0.1, to: 0.8, shape: step}}}",
        "loss: {labels: 1.0, logits: {weight: {from: 0.1, to: 0.8, shape: step, begin: {ratio: 0.5}}}}",
    ),
    "W571": Code(
        "an engine that searches differently",
        "ctranslate2 ends a beam search when as many beams have ended as there are, whatever `early_stopping` says; "
        "and where a token is forbidden (`min_length`, `no_repeat_ngram`) it scores the others as if that token did "
        "not exist. Texts and scores then differ slightly from those of transformers. `auto` uses it only where they "
        "do not.",
        "evaluation: {generation: {engine: ctranslate2, beams: 4, no_repeat_ngram: 3}}",
        "evaluation: {generation: {engine: auto, beams: 4, no_repeat_ngram: 3}}",
    ),
    "W573": Code(
        "a beam-search setting without beams",
        "`early_stopping` says when a beam search ends, `length_penalty` which of its texts is taken. With `beams: "
        "1`, or with sampling, there is one text and nothing to choose: they have no effect. (The length penalty of a "
        "labeller still enters the scores of its labels.)",
        "evaluation: {generation: {beams: 1, length_penalty: 2.0}}",
        "evaluation: {generation: {beams: 2, length_penalty: 2.0}}",
    ),
    "E581": Code(
        "labels of a file for rows without ids",
        "A file of labels is aligned with the training data by id, never by line: files that were made for the same data "
        "lose a line here and there. So the training data need a column of ids.",
        """\
$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; echo '{"id": 1, "text": "A dog."}' > labels.jsonl; distilc check spec.yaml
data: {train: {files: rows.jsonl}, columns: {id: null}}
pseudo_labels: {dump: {file: labels.jsonl}}
targets: [original, dump]""",
        """\
$ echo '{"id": 1, "source": "A cat sat.", "target": "A cat."}' > rows.jsonl; echo '{"id": 1, "text": "A dog."}' > labels.jsonl; distilc check spec.yaml
data: {train: {files: rows.jsonl}, columns: {id: id}}
pseudo_labels: {dump: {file: labels.jsonl}}
targets: [original, dump]""",
    ),
    "E582": Code(
        "`best_of` above the number of beams",
        "With `best_of: n` the labeller writes n texts for a source, and the one closest to the original target is "
        "kept. A beam search ends with as many texts as it has beams, so it needs at least n. With `sampling` any "
        "number of texts can be drawn.",
        """\
pseudo_labels: {own: {by: teacher, best_of: 4, generation: {beams: 2}}}
targets: [own]""",
        """\
pseudo_labels: {own: {by: teacher, best_of: 4, generation: {beams: 4}}}
targets: [own]""",
    ),
    "E583": Code(
        "a duplicate target",
        "`targets` names each target once. How often its rows are used is its share: `{own: 2}` is every row twice, "
        "`{own: 0.5}` half of the rows.",
        """\
pseudo_labels: {own: {by: teacher}}
targets: [own, {own: 0.5}]""",
        """\
pseudo_labels: {own: {by: teacher}}
targets: [{own: 1.5}]""",
    ),
    "W583": Code(
        "a share without rows",
        "A share of the rows is rounded to whole rows: a small share of few rows is none, and the target has no "
        "effect. Reported where the number of rows is known without asking the hub: by `explain`, `compile` and "
        "`run`.",
        """\
$ distilc explain spec.yaml
pseudo_labels: {own: {by: teacher}}
targets: [original, {own: 0.00001}]""",
        """\
$ distilc explain spec.yaml
pseudo_labels: {own: {by: teacher}}
targets: [original, {own: 0.1}]""",
    ),
    "E584": Code(
        "impossible length ratios",
        "`keep: {length_ratio: {min, max}}` leaves out labels that are shorter or longer than these multiples of the "
        "original target, in characters. The minimum is above the maximum.",
        """\
pseudo_labels: {own: {by: teacher, keep: {length_ratio: {min: 2, max: 0.5}}}}
targets: [own]""",
        """\
pseudo_labels: {own: {by: teacher, keep: {length_ratio: {min: 0.5, max: 2}}}}
targets: [own]""",
    ),
    "E531": Code(
        "a family that does not support the task",
        "The task decides what stands on top of the model. Summaries and translations are written by bart, marian, mbart, "
        "pegasus and t5; masked tokens are predicted by bert, distilbert and roberta; classes by those three and bart.",
        """\
$ mkdir my-model; echo '{"model_type": "bert"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E532": Code(
        "an impossible family for the student",
        "A student is of its teacher's family. One other is possible: a DistilBERT, made of a BERT's layers, without token "
        "types and pooler.",
        "student: {family: distilbert}",
        "student: {decoder_layers: 2}",
    ),
    "E533": Code(
        "a decoder of an encoder-only model",
        "bert, roberta and distilbert have no decoder. Depth, initialization and φ of such a student are those of its "
        "encoder: `student.encoder_layers`, `student.init.encoder`, `phi.encoder`.",
        """\
$ mkdir my-model; echo '{"model_type": "bert"}' > my-model/config.json; distilc check spec.yaml
task: masked-lm
teacher: {path: ./my-model}
student: {decoder_layers: 6}""",
        """\
$ mkdir my-model; echo '{"model_type": "bert"}' > my-model/config.json; distilc check spec.yaml
task: masked-lm
teacher: {path: ./my-model}
student: {decoder_layers: null, encoder_layers: 6}""",
    ),
    "E534": Code(
        "labels that the teacher does not have",
        "`data.labels` names the classes in the order of the outputs; a teacher that is used as it is has one output for "
        "each. A teacher that is trained first (`train: {}`) gets outputs for these labels.",
        """\
$ mkdir my-model; echo '{"model_type": "bert", "num_labels": 2}' > my-model/config.json; distilc check spec.yaml
task: classification
teacher: {path: ./my-model}
data: {labels: [bad, fair, good]}""",
        """\
$ mkdir my-model; echo '{"model_type": "bert", "num_labels": 3}' > my-model/config.json; distilc check spec.yaml
task: classification
teacher: {path: ./my-model}
data: {labels: [bad, fair, good]}""",
    ),
    "E535": Code(
        "a shard of the weights is missing",
        "Large weights are split over several files, which an index lists. After an interrupted copy or download some "
        "of them are missing.",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; echo '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}' > my-model/model.safetensors.index.json; touch my-model/model-1.safetensors; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; echo '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}' > my-model/model.safetensors.index.json; touch my-model/model-1.safetensors my-model/model-2.safetensors; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E536": Code(
        "an adapter, not a model",
        "A folder written by peft (LoRA and similar) has a few matrices that are added to another model. Merge them "
        "into it: `PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().save_pretrained(FOLDER)`, and save the "
        "tokenizer there too.",
        """\
$ mkdir my-model; echo '{"base_model_name_or_path": "google-t5/t5-small"}' > my-model/adapter_config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E537": Code(
        "tokens that the model has no embedding for",
        "Tokens were added to the tokenizer but not to the model, or the tokenizer belongs to another model. The "
        "first text with such a token would end the run. Call `model.resize_token_embeddings(len(tokenizer))` and "
        "save both. A mask token without an embedding is accepted: no text has it.",
        """\
$ mkdir my-model; echo '{"model_type": "bart", "vocab_size": 4}' > my-model/config.json; echo '{"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "<speaker>": 4}' > my-model/vocab.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart", "vocab_size": 5}' > my-model/config.json; echo '{"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "<speaker>": 4}' > my-model/vocab.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E538": Code(
        "inconsistent special tokens",
        "config.json says which tokens pad, end and start a sequence. One of them is missing, is outside the "
        "vocabulary, or is another token in the tokenizer beside it.",
        """\
$ mkdir my-model; echo '{"model_type": "bart", "pad_token_id": 0}' > my-model/config.json; echo '{"<s>": 0, "<pad>": 1, "</s>": 2}' > my-model/vocab.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart", "pad_token_id": 1}' > my-model/config.json; echo '{"<s>": 0, "<pad>": 1, "</s>": 2}' > my-model/vocab.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E539": Code(
        "weights that are not floating-point numbers",
        "Integers and 8-bit floats are the weights of a quantized model, which have values only together with their "
        "scales. They cannot be copied, compared or trained. Use the model before quantization.",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; python3 -c 'h = b"{\\"w\\": {\\"dtype\\": \\"I8\\", \\"shape\\": [1], \\"data_offsets\\": [0, 1]}}"; open("my-model/model.safetensors", "wb").write(len(h).to_bytes(8, "little") + h + b"1")'; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart"}' > my-model/config.json; python3 -c 'h = b"{\\"w\\": {\\"dtype\\": \\"F32\\", \\"shape\\": [1], \\"data_offsets\\": [0, 4]}}"; open("my-model/model.safetensors", "wb").write(len(h).to_bytes(8, "little") + h + b"1234")'; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "E551": Code(
        "two packages register the same name",
        "Installed packages add terms, metrics and families to the language, each under its own name. If two packages "
        "register the same name, neither is used: which one it is would depend on chance.",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.terms]'; echo focal = one:FOCAL) > one.dist-info/entry_points.txt; mkdir two.dist-info; (echo Name: two; echo Version: 1.0) > two.dist-info/METADATA; (echo '[distilc.terms]'; echo focal = two:FOCAL) > two.dist-info/entry_points.txt; distilc check spec.yaml
loss: {labels: 1.0, focal: 0.5}""",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.terms]'; echo focal = one:FOCAL) > one.dist-info/entry_points.txt; echo '{"terms": {"focal": {"description": "A term.", "tasks": ["summarization"], "needs": ["logits"], "properties": {"weight": {"description": "Weight.", "type": "number", "minimum": 0}}}}}' > one.schema.json; touch one.py; distilc check spec.yaml
loss: {labels: 1.0, focal: 0.5}""",
    ),
    "E552": Code(
        "an entry point that cannot be resolved",
        "A package registers a term, a metric or a family as `module:object`. There is no such module: the package is "
        "damaged, or the entry point is misspelt.",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.metrics]'; echo brevity = one:BREVITY) > one.dist-info/entry_points.txt; distilc check spec.yaml
evaluation: {metrics: [rouge2, brevity]}""",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.metrics]'; echo brevity = one:BREVITY) > one.dist-info/entry_points.txt; echo '{"metrics": {"brevity": {"description": "A metric.", "tasks": ["summarization"], "needs": "texts", "higher_is_better": true}}}' > one.schema.json; touch one.py; distilc check spec.yaml
evaluation: {metrics: [rouge2, brevity]}""",
    ),
    "E553": Code(
        "a package without a valid schema fragment",
        "Beside the module of an entry point lies `<module>.schema.json`, in which a package says what the compiler has to "
        "know of its terms, metrics and families, since it never imports them. The file is missing, or does not fit "
        "`schema/extension.schema.json`. A term, for example, must have a `weight`.",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.metrics]'; echo brevity = one:BREVITY) > one.dist-info/entry_points.txt; touch one.py; distilc check spec.yaml
evaluation: {metrics: [rouge2, brevity]}""",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.metrics]'; echo brevity = one:BREVITY) > one.dist-info/entry_points.txt; echo '{"metrics": {"brevity": {"description": "A metric.", "tasks": ["summarization"], "needs": "texts", "higher_is_better": true}}}' > one.schema.json; touch one.py; distilc check spec.yaml
evaluation: {metrics: [rouge2, brevity]}""",
    ),
    "E554": Code(
        "an invalid name of an extension",
        "The names of terms, metrics and families of packages have small letters, digits, `_` and `-`. `total` is what the "
        "whole loss is called in the log.",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.terms]'; echo total = one:TOTAL) > one.dist-info/entry_points.txt; distilc check spec.yaml
loss: {labels: 1.0, total: 0.5}""",
        "loss: {labels: 1.0}",
    ),
    "E555": Code(
        "a term that does not fit the task",
        "A package says for which tasks each of its terms is.",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.terms]'; echo focal = one:FOCAL) > one.dist-info/entry_points.txt; echo '{"terms": {"focal": {"description": "A term.", "tasks": ["translation"], "needs": ["logits"], "properties": {"weight": {"description": "Weight.", "type": "number", "minimum": 0}}}}}' > one.schema.json; touch one.py; distilc check spec.yaml
loss: {labels: 1.0, focal: 0.5}""",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.terms]'; echo focal = one:FOCAL) > one.dist-info/entry_points.txt; echo '{"terms": {"focal": {"description": "A term.", "tasks": ["summarization"], "needs": ["logits"], "properties": {"weight": {"description": "Weight.", "type": "number", "minimum": 0}}}}}' > one.schema.json; touch one.py; distilc check spec.yaml
loss: {labels: 1.0, focal: 0.5}""",
    ),
    "W541": Code(
        "more memory than this machine has",
        "The processes of a training need more memory than the machine has: without swap the system kills them. If "
        "the plan is meant for other devices, describe those in a site file.",
        "$ echo '{devices: {kind: cpu, memory_gb: 0.5}}' > site.yaml; distilc check --site site.yaml spec.yaml",
        "$ echo '{devices: {kind: cpu, memory_gb: 8}}' > site.yaml; distilc check --site site.yaml spec.yaml",
    ),
    "W551": Code(
        "a built-in name, registered by another package",
        "The built-in terms, metrics and families keep their names whatever is installed, so that a spec means the "
        "same everywhere. What another package registers under such a name is never used.",
        """\
$ mkdir one.dist-info; (echo Name: one; echo Version: 1.0) > one.dist-info/METADATA; (echo '[distilc.metrics]'; echo rouge2 = one:ROUGE) > one.dist-info/entry_points.txt; distilc check spec.yaml
evaluation: {metrics: [rouge1, rouge2]}""",
        "evaluation: {metrics: [rouge1, rouge2]}",
    ),
    "E528": Code(
        "no term of the loss reaches trained weights",
        "A frozen encoder that is a full copy runs once for teacher and student, so a term about it is zero. With no "
        "other term nothing would be learned.",
        "loss: {hidden: {encoder: 1.0}}",
        "loss: {hidden: {encoder: 1.0, decoder: 1.0}}",
    ),
    "W503": Code(
        "a model that was not inspected",
        "`check` does not use the network. Depths, widths and lengths are judged when the model is on this machine, "
        "or by `explain`, `compile` and `run`, which ask the hub.",
        "teacher: facebook/bart-large-xsun",
        "teacher: facebook/bart-large-xsum",
    ),
    "W501": Code(
        "contradictory layer counts",
        "config.json has `encoder_layers` and the older `num_hidden_layers` with another number. The weights were "
        "saved with the former, which is used here; transformers 5 alone would take the latter and build random "
        "layers.",
        """\
$ mkdir my-model; echo '{"model_type": "bart", "encoder_layers": 6, "num_hidden_layers": 12}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
        """\
$ mkdir my-model; echo '{"model_type": "bart", "encoder_layers": 6}' > my-model/config.json; distilc check spec.yaml
teacher: {path: ./my-model}""",
    ),
    "W531": Code(
        "labels in another order than the teacher's",
        "The labels are the teacher's, in another order than its outputs: it would be measured, and would teach, with "
        "its classes exchanged. The accuracy of such a teacher is that of guessing, or worse.",
        """\
$ mkdir my-model; echo '{"model_type": "bert", "id2label": {"0": "bad", "1": "good"}}' > my-model/config.json; distilc check spec.yaml
task: classification
teacher: {path: ./my-model}
data: {labels: [good, bad]}""",
        """\
$ mkdir my-model; echo '{"model_type": "bert", "id2label": {"0": "bad", "1": "good"}}' > my-model/config.json; distilc check spec.yaml
task: classification
teacher: {path: ./my-model}
data: {labels: [bad, good]}""",
    ),
    "W532": Code(
        "a teacher without the task's head",
        "The checkpoint was saved without the head that the task needs, by the class in its config.json. The head is "
        "drawn at random, and a teacher that is not trained first only guesses.",
        """\
$ mkdir my-model; echo '{"model_type": "bert", "architectures": ["BertForMaskedLM"]}' > my-model/config.json; distilc check spec.yaml
task: classification
teacher: {path: ./my-model}
data: {labels: [bad, good]}""",
        """\
$ mkdir my-model; echo '{"model_type": "bert", "architectures": ["BertForMaskedLM"]}' > my-model/config.json; distilc check spec.yaml
task: classification
teacher: {path: ./my-model, train: {}}
data: {labels: [bad, good]}""",
    ),
    "W502": Code(
        "a smaller encoder, frozen",
        "An encoder with fewer layers than the teacher's has to adapt to the missing ones; frozen, it cannot.",
        "student: {encoder_layers: 1, freeze: [encoder, embeddings]}",
        "student: {encoder_layers: 1, freeze: auto}",
    ),
}
