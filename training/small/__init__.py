"""The bundled models: a procedural world with exact ground truth, and the recipe that trains on it."""
