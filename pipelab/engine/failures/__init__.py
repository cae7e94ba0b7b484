"""Why a call to the ranks failed: one deadline, one search for the cause, one set of sentences.

deadline.py    how long to wait for answers
findings.py    what is known of each rank
cause.py       the search for the cause; of ranks that do not advance, who waits for whom
sentences.py   all other errors, in words
"""
