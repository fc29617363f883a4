"""What PostgreSQL's, libpq's and poolers' errors mean, as far as DuckDB passes them on: their words, not their codes.

What can be found out from the server's catalog is found there (`postgresql_catalog.READABLE`). What is left is message
apart by words, those of the server in the languages in which it usually speaks; libpq's own, and those of poolers, are
English everywhere.
"""

from __future__ import annotations

import re

__all__ = ["advised", "is_transient"]

# Unavailable, starting, full, failing over; and what a transaction meets that another one is in the way of.
SIGNS = (
    # libpq and the network
    "Connection refused", "No such file or directory", "timeout expired", "could not translate host name",
    "server closed the connection", "SSL SYSCALL", "during SSL exchange", "Connection reset", "Connection timed out",
    "No route to host", "Network is unreachable", "Host is down", "Broken pipe",
    "could not receive data from server", "could not send data to server", "no connection to the server",
    "refresh it again", "lost synchronization with server", "Temporary failure in name resolution",
    "could not connect to server", "session is not read-(write|only)", "server is (not )?in hot standby mode",
    # SQLSTATE class 53 and 57P: limits, and servers that start, end or restart
    "the database system is", "too many clients", "too many connections", "remaining connection slots",
    "terminating connection", "server conn crashed", "out of shared memory", "No space left on device",
    "could not fork new process", "sorry, too many", "cannot connect now",
    # class 40, 55P03: others in the way
    "conflict with recovery", "lock timeout", "deadlock detected", "could not serialize access",
    "could not obtain lock", "could not obtain snapshot",
    # poolers
    "no more connections allowed", "query_wait_timeout", "server login has been failing", "max clients reached",
    "MaxClientsInSessionMode", "client_login_timeout", "pgbouncer cannot connect to server", "server_login_retry",
    "connection pool", "server_lifetime", "disconnecting due to", "connect failed", "Tenant or user .*timeout",
    "query timeout", "no working server connection", "database is (paused|being)",
    # the same in German, French, Spanish: clients, limits, locks, the end of a server
    "reserviert", "zu viele Verbindungen", "Zeitüberschreitung einer Sperre", "Verklemmung entdeckt",
    "Verbindung wird abgebrochen", "das Datenbanksystem", "trop de (clients|connexions)", "verrou mortel",
    "délai dépassé .*verrou", "le système de bases? de données", "demasiad[ao]s (clientes|conexiones)", "deadlock",
    "el sistema de base de datos", "tiempo de espera .*(candado|bloqueo)",

)  # fmt: skip
TRANSIENT = re.compile("|".join(SIGNS))

ADVICE = {
    r"password authentication failed|Passwort-Authentifizierung": "set the right password in the variable of "
    "--password-env, or the password_file",
    "no password supplied": "name the variable that holds the password with --password-env",
    "permission denied for schema": "grant USAGE on the schema to the login",
    "permission denied": "grant SELECT on it; or leave the columns that are not granted out with exclude_columns, or "
    "what reads it with the option exclude",
    "statement timeout|query_timeout": "raise the option statement_timeout",
    "lock timeout|Zeitüberschreitung einer Sperre": "somebody alters or locks the table; try again, or raise the "
    "option lock_timeout",
    "Expected an array with": "its arrays differ in their number of dimensions; set the option arrays=text",
    "row-level security|row security": "set the option row_security=apply to read what its policies show this login, "
    "or give the login BYPASSRLS",
    r'unrecognized configuration parameter|configuration parameter ".*" (not|is not)': "set it with the option "
    'session, such as session={"app.tenant": "7"}, or on the server with ALTER ROLE … SET',
    "too many|connection slots|no more connections|max clients|MaxClients": "lower the option parallel_refresh, or "
    "raise the server's or the pooler's limit",
    "unsupported startup parameter": "add it to ignore_startup_parameters of pgbouncer",
    "conflict with recovery": "try again, or set max_standby_streaming_delay on the replica",
    "transaction timeout|idle-in-transaction": "raise that time-out for this login",
    "temp_file_limit|temporary file size exceeds": "raise temp_file_limit for this login",
    "stack depth limit": "raise max_stack_depth on the server",
}


def is_transient(error: str) -> bool:
    """Whether an error may be gone when one tries again."""
    return TRANSIENT.search(error) is not None


def advised(message: str, error: str) -> str:
    """What the server says, with what to do about it where that is known."""
    if ";" in message and re.search("grant |option ", message):
        return message
    for sign, advice in ADVICE.items():
        if re.search(sign, error):
            return f"{message}; {advice}"
    return message
