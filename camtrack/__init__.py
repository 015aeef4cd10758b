"""Top floor of camtrack: command line, demo, replay, recorder and launch runner."""
