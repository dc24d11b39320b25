"""Tests of the genome room."""
