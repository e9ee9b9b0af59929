"""Measurements that anyone can repeat: each module is a command and prints JSON on request."""
