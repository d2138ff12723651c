"""The run-time type checker of the test suite: beartype, to which an int is a fine float (PEP 484's numeric tower)."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
