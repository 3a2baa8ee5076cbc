"""For whoever watches encserve: dashboards as code, proven with a real Prometheus."""
