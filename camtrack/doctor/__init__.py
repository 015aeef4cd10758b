"""`camtrack doctor`: what is wrong with an installation or a running system, and what to do about it."""
