"""Why a text was given its label: what becomes of the score when words are left out."""
