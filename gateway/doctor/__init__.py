"""`gateway doctor`: what is wrong with an installation, why that matters, and how to mend it.

finding        one thing that is wrong; the report of all of them
asking         one HTTP request, and what can stand in its way
configuration  the file, the keys, who may read and write them
routes         limits, slow clients and streams that work otherwise than the file reads
database       what the server is, what the role may do, what was promised of durability, what is to spare
machine        listeners, workers, memory, open files, disk
upstreams      whether they resolve, take a connection, prove who they are, and answer; whether a group has a spare
outside        public_url as a client sees it, and how Host, scheme and address arrive through the proxy in front
examination    all of them, as far as each can be looked at

Nothing is changed by it: no database is made, no key, no row.
"""

from gateway.doctor.examination import examine
from gateway.doctor.finding import Finding, Level, Report

__all__ = ["Finding", "Level", "Report", "examine"]
