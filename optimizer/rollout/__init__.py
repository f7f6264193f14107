"""Bring a cluster to a plan: more replicas first, fewer once those serve; journalled and undone.

``draft`` says what would change, ``journal`` keeps what was done, ``run`` does it.
"""
