"""What goes into the next batch, and who gets which answer."""
