"""Edit instructions from captions: an agent for each task, whatever does the writing, and checks."""
