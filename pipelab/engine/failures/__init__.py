"""Why a call to the ranks failed: one deadline, one search for the cause, one set of sentences.

deadline.py    how long to wait for answers
findings.py    what is known of each rank, and the search for the cause
stalled.py     the error of ranks that neither answer nor advance: who waits for whom
sentences.py   all other errors, in words
"""
