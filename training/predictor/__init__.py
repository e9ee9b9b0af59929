"""What the task predictor learns from: everyday wordings, a grammar of more, the small world's templates."""
