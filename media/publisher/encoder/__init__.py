"""The source and encoder process: `python -m media.publisher.encoder`, started by the publisher only.

It opens the source, paces it by the clock, codes pictures (x264 or libvpx) and sound (Opus) and writes them
to its standard output; orders come in on its standard input. It ends when that closes.
"""
