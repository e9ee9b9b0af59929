"""Ways to tell the task from an instruction; `core.predictor` is the door to them."""
