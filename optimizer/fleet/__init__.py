"""The fleet as a cluster has it: what runs each GPU type, and the GPUs there are to plan with."""
