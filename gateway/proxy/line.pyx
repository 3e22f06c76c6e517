# cython: language_level=3, boundscheck=False, wraparound=False
"""Lines of the access log, compiled: each in one step onto a page, of a call in which nothing asks for care.

What is written here is what `proxy.access_log` writes of the same call (`tests/proxy/test_line.py`); of others nothing
is, and False tells so. Nothing is read behind the end of what was given, and nothing written behind that of a page: how
long a line may become at most is known before.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
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
    LONGEST_BEGINNING = 64  # of a line, up to its milliseconds
    ALWAYS = 1024  # more than all that is of every line: names of members, numbers, address and method
    PAGE = 64 * 1024  # a few lines at their longest, many as they are

cdef enum:  # what a byte may be of: in each place nothing is looked at but the byte's own bits
    IN_PATH = 1
    IN_NAME = 2  # of a parameter
    IN_TEXT = 4  # without an escape
    IN_WORD = 8
    IN_ADDRESS = 16
    ENDS_SECRET = 32  # the beginning of one: of "gw" or of "eyJ"

cdef double MOST_SECONDS = 1e12
cdef double LATEST = 1e11  # moment, in seconds since 1970


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


cdef inline Place put_all(Place at, Text text, Py_ssize_t size, Text of, unsigned char kind) noexcept:
    """Bytes that are all of a kind."""
    cdef Py_ssize_t index
    for index in range(size):
        if not of[text[index]] & kind:
            return NULL
        at[index] = text[index]
    return at + size


cdef inline Place put_text(Place at, str text, Text of) noexcept:
    """A JSON string that has no escapes, or null; of ASCII."""
    if text is None:
        return say(at, b"null")
    at[0] = QUOTE
    at = put_all(at + 1, <Text> PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text), of, IN_TEXT)
    if at == NULL:
        return NULL
    at[0] = QUOTE
    return at + 1


cdef inline Place put_word(Place at, str text, Text of) noexcept:
    """One word without a quote or an escape, or "-"; of ASCII."""
    cdef Py_ssize_t size = 0 if text is None else PyUnicode_GET_LENGTH(text)
    if size == 0:
        return say(at, b"-")
    if size > LONGEST_WORD:
        return NULL
    return put_all(at, <Text> PyUnicode_1BYTE_DATA(text), size, of, IN_WORD)


cdef inline Place put_address(Place at, str address, Text of) noexcept:
    """An IP address, or "unix"; of ASCII."""
    cdef Text text = <Text> PyUnicode_1BYTE_DATA(address)
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(address)
    if size == 4 and memcmp(text, b"unix", 4) == 0:
        return say(at, b"unix")
    if size == 0 or size > LONGEST_ADDRESS:
        return NULL
    return put_all(at, text, size, of, IN_ADDRESS)


cdef inline bint ends_secret(Text text, Py_ssize_t at) noexcept:
    """Whether what one of our tokens begins with, or a JWT, stands before a byte that may end that, and with it."""
    if text[at] != 0x4A:  # "gw"
        return at > 0 and text[at - 1] | 0x20 == 0x67
    return at > 1 and text[at - 1] == 0x79 and text[at - 2] == 0x65  # "eyJ"


cdef inline Py_ssize_t end_of(Text text, Py_ssize_t at, Py_ssize_t size, Text of, unsigned char kind) noexcept:
    """How far bytes of a kind reach; -1 where a secret may begin among them."""
    while at < size:
        if of[text[at]] & (kind | ENDS_SECRET) != kind:
            if not of[text[at]] & kind:
                return at
            if ends_secret(text, at):
                return -1
        at += 1
    return at


cdef inline Place put_target(Place to, bytes target, Text of) noexcept:
    """The path, and of the query the names."""
    cdef Text text = <Text> PyBytes_AS_STRING(target)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(target), begin
    cdef Py_ssize_t at = end_of(text, 0, size, of, IN_PATH)
    cdef const void *found
    if at < 0 or at > LONGEST_PATH:
        return NULL
    if at == size:
        return put(to, text, size)
    if text[at] != QUESTION_MARK or size - at - 1 > LONGEST_QUERY:
        return NULL
    at += 1
    to = put(to, text, at)
    while at < size:
        begin = at
        at = end_of(text, begin, size, of, IN_NAME)
        if at < 0:
            return NULL
        if (
            begin < at <= begin + LONGEST_NAME and at + 1 < size
            and text[at] == EQUALS and text[at + 1] != EQUALS and text[at + 1] != AMPERSAND
        ):
            if (to - 1)[0] == EQUALS:
                to[0] = AMPERSAND
                to += 1
            to = put(to, text + begin, at + 1 - begin)
        found = memchr(text + at, AMPERSAND, size - at)
        if found == NULL:
            break
        at = <Text> found - text + 1
    return to


cdef Place put_referer(Place to, bytes referer, Text of) noexcept:
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
    while at < size and is_of_host(text[at]):
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
        while at < size and of[text[at]] & IN_PATH:
            at += 1
        if at - begin > LONGEST_REFERER:
            return NULL
    if at < size and text[at] != QUESTION_MARK and text[at] != 0x23:
        return NULL
    for begin in range(at):
        if of[text[begin]] & ENDS_SECRET and ends_secret(text, begin):
            return NULL
    return put(to, text, at)


cdef inline bint is_of_host(unsigned char byte) noexcept:
    return 0x30 <= byte <= 0x39 or 0x61 <= byte | 0x20 <= 0x7A or byte == 0x2D or byte == 0x2E


# -- lines -------------------------------------------------------------------------------------------------------------

cdef class Page:
    """Lines, one behind the other, that are yet to be taken; where no more fits none is written."""

    cdef Place _lines
    cdef Py_ssize_t _used
    cdef object _begins
    cdef long long _second  # since 1970, and how lines of it begin
    cdef unsigned char _beginning[LONGEST_BEGINNING]
    cdef Py_ssize_t _beginning_size
    cdef unsigned char _of[256]

    def __cinit__(self, begins not None, bytes of_path not None, bytes of_name not None):
        """`begins` says what stands in lines of a second for it; `of_path` and `of_name` have a byte for each that there
        is, and say which ones a path and the name of a parameter may be of, to be shown as they are."""
        cdef int byte
        if len(of_path) != 256 or len(of_name) != 256:
            raise ValueError("a table has 256 bytes")
        for byte in range(256):
            self._of[byte] = (
                (IN_PATH if of_path[byte] else 0)
                | (IN_NAME if of_name[byte] else 0)
                | (IN_TEXT if SPACE <= byte <= TILDE and byte != QUOTE and byte != BACKSLASH else 0)
                | (IN_WORD if SPACE < byte <= TILDE and byte != QUOTE and byte != BACKSLASH else 0)
                | (IN_ADDRESS if 0x30 <= byte <= COLON or 0x61 <= byte <= 0x66 or byte == 0x2E else 0)  # 0-9: a-f .
                | (ENDS_SECRET if byte | 0x20 == 0x77 or byte == 0x4A else 0)  # w W J
            )
        self._begins = begins
        self._second = -1
        self._lines = <Place> PyMem_Malloc(PAGE)
        if self._lines == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._lines)

    def taken(self):
        """What is on the page, which is empty then."""
        cdef Py_ssize_t used = self._used
        self._used = 0
        return PyBytes_FromStringAndSize(<const char *> self._lines, used)

    cdef int _take(self, long long second) except -1:
        """Have lines begin as those of a second do."""
        cdef bytes beginning
        if second != self._second:
            beginning = self._begins(second)
            if len(beginning) > LONGEST_BEGINNING:
                raise ValueError("the time takes too much of a line")
            memcpy(self._beginning, PyBytes_AS_STRING(beginning), len(beginning))
            self._beginning_size, self._second = len(beginning), second
        return 0

    def json(
        self, double now, bytes request_id not None, str address not None, bytes method not None,
        bytes target not None, bytes route not None, unsigned int status, bytes cause not None, long long received,
        long long sent, double seconds, object at_upstream, bytes upstream not None, str client, str subject,
        str scheme,
    ):
        """Write a line at a moment, if nothing asks for care; `route`, `cause` and `upstream` are JSON."""
        cdef long long millis
        cdef Place at
        cdef Text of = self._of
        cdef double waited = 0.0 if at_upstream is None else at_upstream
        if (
            self._used > PAGE - LONGEST_LINE
            or ALWAYS + PyBytes_GET_SIZE(request_id) + min(PyBytes_GET_SIZE(target), 2 * LONGEST_PATH)
            + PyBytes_GET_SIZE(route) + PyBytes_GET_SIZE(cause) + PyBytes_GET_SIZE(upstream) + size_of(client)
            + size_of(subject) + size_of(scheme) > LONGEST_LINE
            or PyBytes_GET_SIZE(method) > LONGEST_METHOD or received < 0 or sent < 0
            or not PyUnicode_IS_COMPACT_ASCII(address) or not (seconds < MOST_SECONDS and waited < MOST_SECONDS)
            or not 0.0 <= now < LATEST
        ):
            return False
        millis = <long long> (now * 1000)
        self._take(millis // 1000)
        at = put(self._lines + self._used, self._beginning, self._beginning_size)
        at = put_digits(at, millis % 1000, 3)
        at = put_bytes(say(at, b'Z","event":"call","request_id":"'), request_id)
        at = put_address(say(at, b'","address":"'), address, of)
        if at == NULL:
            return False
        at = put_bytes(say(at, b'","method":"'), method)
        at = put_target(say(at, b'","target":"'), target, of)
        if at == NULL:
            return False
        at = say(put_bytes(say(at, b'","route":'), route), b',"status":')
        at = put_number(at, status) if status else say(at, b"null")
        at = put_bytes(say(at, b',"cause":'), cause)
        at = put_number(say(at, b',"received":'), received)
        at = put_number(say(at, b',"sent":'), sent)
        at = say(put_seconds(say(at, b',"seconds":'), seconds), b',"upstream_seconds":')
        at = say(at, b"null") if at_upstream is None else put_seconds(at, waited)
        at = put_bytes(say(at, b',"upstream":'), upstream)
        at = put_text(say(at, b',"client":'), client, of)
        if at != NULL:
            at = put_text(say(at, b',"subject":'), subject, of)
        if at != NULL:
            at = put_text(say(at, b',"scheme":'), scheme, of)
        if at == NULL:
            return False
        self._used = say(at, b"}\n") - self._lines
        return True

    def combined(
        self, double now, str address not None, str subject, bytes method not None, bytes target not None,
        int minor_version, unsigned int status, long long sent, bytes referer, bytes agent not None,
    ):
        """Write a line at a moment, if nothing asks for care; `agent` is what stands between its quotes, and `referer`
        is as it came."""
        cdef Place at
        cdef Text of = self._of
        if (
            self._used > PAGE - LONGEST_LINE
            or ALWAYS + min(PyBytes_GET_SIZE(target), 2 * LONGEST_PATH)
            + (0 if referer is None else PyBytes_GET_SIZE(referer)) + PyBytes_GET_SIZE(agent) + size_of(subject)
            > LONGEST_LINE
            or PyBytes_GET_SIZE(method) > LONGEST_METHOD or minor_version < 0 or sent < 0
            or not PyUnicode_IS_COMPACT_ASCII(address) or not 0.0 <= now < LATEST
        ):
            return False
        self._take(<long long> now)
        at = put_address(self._lines + self._used, address, of)
        if at != NULL:
            at = put_word(say(at, b" - "), subject, of)
        if at == NULL:
            return False
        at = put(at, self._beginning, self._beginning_size)
        at = put_target(say(put_bytes(at, method), b" "), target, of)
        if at == NULL:
            return False
        at = say(put_number(say(at, b" HTTP/1."), minor_version), b'" ')
        at = put_number(at, status) if status else say(at, b"-")
        at = say(put_number(say(at, b" "), sent), b' "')
        at = say(at, b"-") if referer is None else put_referer(at, referer, of)
        if at == NULL:
            return False
        self._used = say(put_bytes(say(at, b'" "'), agent), b'"\n') - self._lines
        return True
