"""Checksums of files and of whole folders."""
