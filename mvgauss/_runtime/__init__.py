"""How long stacks are walked: blocks, threads, progress; knows nothing of statistics."""
