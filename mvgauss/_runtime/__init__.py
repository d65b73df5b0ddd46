"""How a long stack is computed: in blocks, on threads. Knows nothing of statistics."""
