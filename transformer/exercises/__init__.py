"""Checks for the exercises of the book, one module a chapter.

Each compares a reader's function with the truth on small and nasty inputs, and answers in
one sentence.
"""
