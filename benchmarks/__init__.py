"""Speed and quality, one command each; results are Markdown with machine and versions."""
