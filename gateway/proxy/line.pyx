# cython: language_level=3, boundscheck=False, wraparound=False
"""Lines of the access log, compiled: each in one step, of a call in which nothing asks for care.

What is written here is what `proxy.access_log` writes of the same call (`tests/proxy/test_line.py`); of others nothing
is, and None tells so. Nothing is read behind the end of what was given, and nothing written behind that of a line: how
long it may become at most is known before.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy, strlen

ctypedef const unsigned char *Text
ctypedef unsigned char *Place

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object)
    const void *PyUnicode_1BYTE_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)

cdef enum:
    SPACE = 0x20
    QUOTE = 0x22
    AMPERSAND = 0x26
    SLASH = 0x2F
    COLON = 0x3A
    EQUALS = 0x3D
    QUESTION_MARK = 0x3F
    BACKSLASH = 0x5C
    TILDE = 0x7E
    LONGEST_METHOD = 40
    LONGEST_PATH = 1000
    LONGEST_QUERY = 400
    LONGEST_NAME = 40  # of a parameter
    LONGEST_WORD = 300
    LONGEST_ADDRESS = 64
    LONGEST_HOST = 200
    LONGEST_REFERER = 300  # of its path
    LONGEST_LINE = 4096
    ALWAYS = 1024  # more than all that is of every line: names of members, numbers, address and method

cdef double MOST_SECONDS = 1e12


# -- what is put down: each gives the place behind it, or NULL where it is not as simple as that -----------------------

cdef inline Place put(Place at, Text text, Py_ssize_t size) noexcept:
    memcpy(at, text, size)
    return at + size


cdef inline Place put_bytes(Place at, bytes text) noexcept:
    return put(at, <Text> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline Place say(Place at, const char *text) noexcept:
    return put(at, <Text> text, strlen(text))


cdef inline Place put_number(Place at, unsigned long long number) noexcept:
    cdef unsigned char digits[20]
    cdef int first = 20
    while True:
        first -= 1
        digits[first] = 0x30 + number % 10
        number //= 10
        if number == 0:
            return put(at, digits + first, 20 - first)


cdef inline Place put_digits(Place at, unsigned int number, int count) noexcept:
    cdef int index
    for index in range(count - 1, -1, -1):
        at[index] = 0x30 + number % 10
        number //= 10
    return at + count


cdef inline Place put_seconds(Place at, double seconds) noexcept:
    """With six decimals, never negative."""
    cdef unsigned long long micros = <unsigned long long> (seconds * 1e6 + 0.5) if seconds > 0.0 else 0
    at = put_number(at, micros // 1000000)
    at[0] = 0x2E
    return put_digits(at + 1, micros % 1000000, 6)


cdef inline Py_ssize_t size_of(object text) noexcept:
    """How many bytes a text is of; so many that it fits nowhere where it is not of ASCII."""
    if text is None:
        return 0
    return PyUnicode_GET_LENGTH(text) if PyUnicode_IS_COMPACT_ASCII(text) else LONGEST_LINE


cdef Place put_text(Place at, str text) noexcept:
    """A JSON string that has no escapes, or null; of ASCII."""
    cdef Text of
    cdef Py_ssize_t index
    if text is None:
        return say(at, b"null")
    of = <Text> PyUnicode_1BYTE_DATA(text)
    at[0] = QUOTE
    at += 1
    for index in range(PyUnicode_GET_LENGTH(text)):
        if of[index] < SPACE or of[index] > TILDE or of[index] == QUOTE or of[index] == BACKSLASH:
            return NULL
        at[index] = of[index]
    at += PyUnicode_GET_LENGTH(text)
    at[0] = QUOTE
    return at + 1


cdef Place put_word(Place at, str text) noexcept:
    """One word without a quote or an escape, or "-"; of ASCII."""
    cdef Text of
    cdef Py_ssize_t index, size = 0 if text is None else PyUnicode_GET_LENGTH(text)
    if size == 0:
        return say(at, b"-")
    of = <Text> PyUnicode_1BYTE_DATA(text)
    if size > LONGEST_WORD:
        return NULL
    for index in range(size):
        if of[index] <= SPACE or of[index] > TILDE or of[index] == QUOTE or of[index] == BACKSLASH:
            return NULL
        at[index] = of[index]
    return at + size


cdef Place put_address(Place at, str address) noexcept:
    """An IP address, or "unix"; of ASCII."""
    cdef Text of = <Text> PyUnicode_1BYTE_DATA(address)
    cdef Py_ssize_t index, size = PyUnicode_GET_LENGTH(address)
    if size == 0 or size > LONGEST_ADDRESS:
        return NULL
    for index in range(size):
        if not (0x30 <= of[index] <= COLON or 0x61 <= of[index] <= 0x66 or of[index] == 0x2E):  # 0-9: a-f .
            if size != 4 or memcmp(of, b"unix", 4):
                return NULL
        at[index] = of[index]
    return at + size


cdef bint asks_for_care(Text text, Py_ssize_t size, bint jwt_too) noexcept:
    """Whether there is what one of our tokens begins with, or a JWT."""
    cdef Py_ssize_t at
    for at in range(1, size):
        if text[at] | 0x20 == 0x77 and text[at - 1] | 0x20 == 0x67:  # "gw"
            return True
        if jwt_too and text[at] == 0x4A and at > 1 and text[at - 1] == 0x79 and text[at - 2] == 0x65:  # "eyJ"
            return True
    return False


cdef Place put_target(Place to, bytes target, Text in_path, Text in_name) noexcept:
    """The path, and of the query the names."""
    cdef Text text = <Text> PyBytes_AS_STRING(target)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(target), at = 0, begin
    cdef const void *found
    while at < size and text[at] != QUESTION_MARK:
        if not in_path[text[at]]:
            return NULL
        at += 1
    if at > LONGEST_PATH or asks_for_care(text, at, True):
        return NULL
    if at == size:
        return put(to, text, size)
    if size - at - 1 > LONGEST_QUERY:
        return NULL
    at += 1
    to = put(to, text, at)
    while at < size:
        begin = at
        while at < size and in_name[text[at]]:
            at += 1
        if (
            begin < at <= begin + LONGEST_NAME and at + 1 < size
            and text[at] == EQUALS and text[at + 1] != EQUALS and text[at + 1] != AMPERSAND
        ):
            if asks_for_care(text + begin, at - begin, False):
                return NULL
            if (to - 1)[0] == EQUALS:
                to[0] = AMPERSAND
                to += 1
            to = put(to, text + begin, at + 1 - begin)
        found = memchr(text + at, AMPERSAND, size - at)
        if found == NULL:
            break
        at = <Text> found - text + 1
    return to


cdef Place put_referer(Place to, bytes referer, Text in_path) noexcept:
    """An address by http or https, without its query and fragment."""
    cdef Text text = <Text> PyBytes_AS_STRING(referer)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(referer), at, begin
    if size < 8 or memcmp(text, b"http", 4):
        return NULL
    at = 5 if text[4] == 0x73 else 4
    if memcmp(text + at, b"://", 3):
        return NULL
    at += 3
    begin = at
    while at < size and (in_path[text[at]] and is_of_host(text[at])):
        at += 1
    if at == begin or at - begin > LONGEST_HOST:
        return NULL
    if at < size and text[at] == COLON:
        begin = at + 1
        at = begin
        while at < size and 0x30 <= text[at] <= 0x39:
            at += 1
        if at == begin or at - begin > 5:
            return NULL
    if at < size and text[at] == SLASH:
        begin = at + 1
        at = begin
        while at < size and in_path[text[at]]:
            at += 1
        if at - begin > LONGEST_REFERER:
            return NULL
    if (at < size and text[at] != QUESTION_MARK and text[at] != 0x23) or asks_for_care(text, at, True):
        return NULL
    return put(to, text, at)


cdef inline bint is_of_host(unsigned char byte) noexcept:
    return 0x30 <= byte <= 0x39 or 0x61 <= byte | 0x20 <= 0x7A or byte == 0x2D or byte == 0x2E


cdef inline Text table(bytes of) except NULL:
    """One byte for each that there is."""
    if len(of) != 256:
        raise ValueError("a table has 256 bytes")
    return <Text> PyBytes_AS_STRING(of)


# -- lines -------------------------------------------------------------------------------------------------------------

def json(
    bytes begins not None, unsigned int millis, bytes request_id not None, str address not None,
    bytes method not None, bytes target not None, bytes of_path not None, bytes of_name not None,
    bytes route not None, unsigned int status, bytes cause not None, long long received, long long sent,
    double seconds, object at_upstream, bytes upstream not None, str client, str subject, str scheme,
):
    """`begins` is what stands before the milliseconds; `route`, `cause` and `upstream` are JSON; `of_path` and `of_name`
    say which bytes a path and the name of a parameter may be of, to be shown as they are."""
    cdef unsigned char line[LONGEST_LINE]
    cdef Place at = line
    cdef double waited = 0.0 if at_upstream is None else at_upstream
    cdef Text in_path = table(of_path)
    cdef Text in_name = table(of_name)
    if (
        ALWAYS + len(begins) + len(request_id) + min(len(target), 2 * LONGEST_PATH) + len(route) + len(cause)
        + len(upstream) + size_of(client) + size_of(subject) + size_of(scheme) > LONGEST_LINE
        or len(method) > LONGEST_METHOD or millis > 999 or received < 0 or sent < 0
        or not PyUnicode_IS_COMPACT_ASCII(address) or not (seconds < MOST_SECONDS and waited < MOST_SECONDS)
    ):
        return None
    at = put_digits(put_bytes(at, begins), millis, 3)
    at = put_bytes(say(at, b'Z","event":"call","request_id":"'), request_id)
    at = put_address(say(at, b'","address":"'), address)
    if at == NULL:
        return None
    at = put_bytes(say(at, b'","method":"'), method)
    at = put_target(say(at, b'","target":"'), target, in_path, in_name)
    if at == NULL:
        return None
    at = say(put_bytes(say(at, b'","route":'), route), b',"status":')
    at = put_number(at, status) if status else say(at, b"null")
    at = put_bytes(say(at, b',"cause":'), cause)
    at = put_number(say(at, b',"received":'), received)
    at = put_number(say(at, b',"sent":'), sent)
    at = say(put_seconds(say(at, b',"seconds":'), seconds), b',"upstream_seconds":')
    at = say(at, b"null") if at_upstream is None else put_seconds(at, waited)
    at = put_bytes(say(at, b',"upstream":'), upstream)
    at = put_text(say(at, b',"client":'), client)
    if at != NULL:
        at = put_text(say(at, b',"subject":'), subject)
    if at != NULL:
        at = put_text(say(at, b',"scheme":'), scheme)
    if at == NULL:
        return None
    at = say(at, b"}\n")
    return PyBytes_FromStringAndSize(<const char *> line, at - line)


def combined(
    bytes time not None, str address not None, str subject, bytes method not None, bytes target not None,
    bytes of_path not None, bytes of_name not None, int minor_version, unsigned int status, long long sent,
    bytes referer, bytes agent not None,
):
    """`time` is what stands behind the subject, and `agent` what stands between its quotes; `referer` is as it came."""
    cdef unsigned char line[LONGEST_LINE]
    cdef Place at = line
    cdef Text in_path = table(of_path)
    cdef Text in_name = table(of_name)
    if (
        ALWAYS + len(time) + min(len(target), 2 * LONGEST_PATH) + (0 if referer is None else len(referer)) + len(agent)
        + size_of(subject) > LONGEST_LINE
        or len(method) > LONGEST_METHOD or minor_version < 0 or sent < 0 or not PyUnicode_IS_COMPACT_ASCII(address)
    ):
        return None
    at = put_address(at, address)
    if at != NULL:
        at = put_word(say(at, b" - "), subject)
    if at == NULL:
        return None
    at = say(put_bytes(put_bytes(at, time), method), b" ")
    at = put_target(at, target, in_path, in_name)
    if at == NULL:
        return None
    at = say(put_number(say(at, b" HTTP/1."), minor_version), b'" ')
    at = put_number(at, status) if status else say(at, b"-")
    at = say(put_number(say(at, b" "), sent), b' "')
    at = say(at, b"-") if referer is None else put_referer(at, referer, in_path)
    if at == NULL:
        return None
    at = say(put_bytes(say(at, b'" "'), agent), b'"\n')
    return PyBytes_FromStringAndSize(<const char *> line, at - line)
