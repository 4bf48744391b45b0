"""How numbers and texts of unknown origin are written, wherever they are shown."""
