"""The socket that the server listens on, so that new connections do not wait for one another."""

import socket

import uvicorn

# uvloop accepts one connection a turn of the loop from each socket that it watches. Under load a
# turn takes many milliseconds, and the probes of health come over new connections.
ACCEPTED_A_TURN = 16


def listening_sockets(config: uvicorn.Config) -> list[socket.socket]:
    """One socket on the address of `config`, under so many descriptors.

    The process ends with a line in the log if nobody can listen there.
    """
    first = config.bind_socket()
    first.set_inheritable(False)
    return [first, *(first.dup() for _ in range(ACCEPTED_A_TURN - 1))]
