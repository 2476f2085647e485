"""Masked token generators: the plain network, how tokens are revealed, their likelihood."""
