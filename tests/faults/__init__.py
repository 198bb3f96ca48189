"""Every outside call of a run × every fault that applies there: `python -m tests.faults`, or `make faults`."""
