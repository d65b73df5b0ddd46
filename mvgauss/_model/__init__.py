"""The parts of the estimator: embeddings, the state that is fitted, and functions of both."""
