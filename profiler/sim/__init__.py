"""The engine simulator: one replica of a model on accelerators, in virtual or in real time."""
