"""The parts of training/train_editor, each a small file of its own."""
