"""The accelerators of a cluster: a diagnosis on every node, and what follows from it for the node.

nodes ─ one Job each ─► documents ─► reports ─► condition, Event, taint, cordon ─► undo

What is changed on a node is recorded on the node, with what stood there before.
"""
