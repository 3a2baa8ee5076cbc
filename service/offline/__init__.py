"""The workshop: encoder, fine-tuning, export and parity; torch lives here and only here."""
