"""What every training loop shares: batches, optimizer, processes, and its state on disk."""
