"""Commands: `emu-edit` (main), and `python -m emu_edit.commands.demo`. Heavy imports wait for a command."""
