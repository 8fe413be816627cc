"""Small specs that compile without a diagnosis, for tests to change."""

SMALL = """
version: 1
name: small
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 3, decoder_layers: 6, d_model: 64, heads: 4, ffn_dim: 128}
  tokenizer: {vocab_size: 500}
  train: {}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins, limit: 100}
  validation: {builtin: bulletins, limit: 20}
  test: {builtin: bulletins, limit: 20}
"""
TINY = """\
version: 1
name: x
task: summarization
teacher:
  architecture: {family: marian, encoder_layers: 2, decoder_layers: 4, d_model: 64, heads: 2, ffn_dim: 128}
  tokenizer: {vocab_size: 500}
  train: {}
student: {decoder_layers: 2}
data:
  train: {builtin: bulletins}
  validation: {builtin: bulletins}
  test: {builtin: bulletins}
"""
