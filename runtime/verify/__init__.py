"""The executable contract of the objective: what a plan will train, proved on the plan before it is trained."""
