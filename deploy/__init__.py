"""Manifests for Kubernetes and KServe, and what writes those of them that are made."""
