"""One file a revision, named NNNN_what_it_does.py; its revision id is the number."""
