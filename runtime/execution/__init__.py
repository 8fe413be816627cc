"""How the stages of a plan come to be computed: launcher, nodes, workers, the store, heartbeats."""
