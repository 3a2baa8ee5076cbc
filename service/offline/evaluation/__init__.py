"""How good a model is, measured through the runtime that serves, and said in a report."""
