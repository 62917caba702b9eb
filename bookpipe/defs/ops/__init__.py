"""Ops: verbs that hand tables to each other, each a call into the layers below."""
