"""Published models on disk: manifests, versions, digests; it knows files, not models."""
