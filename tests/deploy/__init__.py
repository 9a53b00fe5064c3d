"""The chart for Kubernetes and the rules for Prometheus."""
