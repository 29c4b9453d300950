"""Tests of the documentation: its code blocks run, its commands exist, its generated pages are complete."""
