"""A graph of its own for a demo: nodes that run at the same time neither hear its images nor publish in their names."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from camtrack_core.errors import ConfigurationError

DOMAIN, REACH = "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"
DOMAINS = range(215, 233)  # their ports lie above those that Linux hands out for connections
PARTICIPANTS = 32  # of a domain that find each other on one machine


@contextmanager
def own_domain() -> Iterator[str]:
    """Sets the environment of a graph that nobody else on this machine is in, and nobody beyond it hears.

    A domain that the environment names is what its user wants, and stays. Yields the domain's number; raises
    ConfigurationError where every domain is in use.
    """
    if given := os.environ.get(DOMAIN):
        yield given
        return
    domain, claim = next(((each, port) for each in DOMAINS if (port := _claim(each))), (None, None))
    if claim is None:
        expected = f"a ROS domain from {DOMAINS[0]} to {DOMAINS[-1]} that nobody uses"
        raise ConfigurationError(f"expected {expected}, found none; set {DOMAIN} to one of your choice")
    before = dict(os.environ)
    os.environ |= {DOMAIN: str(domain), REACH: os.environ.get(REACH, "LOCALHOST")}
    with claim:
        try:
            yield str(domain)
        finally:
            for name in (DOMAIN, REACH):
                os.environ.pop(name)
            os.environ |= before


def _claim(domain: int) -> socket.socket | None:
    """The port of the domain's first participant, or None where somebody has it or another one's.

    While it is kept, whoever joins the domain takes the next. It is freed with the process, however that ends; nodes
    that outlive their demo keep theirs.
    """
    first, *others = (_bound(_port(domain, participant)) for participant in range(PARTICIPANTS))
    for port in others:
        if port is not None:
            port.close()
    if first is not None and None in others:
        first.close()
        return None
    return first


def _bound(port: int) -> socket.socket | None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.bind(("", port))
    except OSError:
        bound.close()
        return None
    return bound


def _port(domain: int, participant: int) -> int:
    """Where a participant listens for others (the RTPS standard's 9.6.1.1)."""
    return 7400 + 250 * domain + 10 + 2 * participant
