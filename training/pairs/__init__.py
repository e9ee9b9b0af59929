"""The stages of training.build_pairs: jobs, candidates, verdicts, parts, shards."""
