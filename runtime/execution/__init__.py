"""How the stages of a plan come to be computed: processes, store, signs of life."""
