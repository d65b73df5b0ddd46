"""The functions: samples -> moments -> covariances, inverses, distances and their distributions."""
