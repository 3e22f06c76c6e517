# cython: language_level=3, boundscheck=False, wraparound=False
"""The scans of `http1.scan`, compiled: each says of all bytes what the pattern of its name says there.

Nothing is read behind the end of what was given: a bytes object has a zero byte there, and each loop ends before it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memchr, memcmp, memcpy

from gateway.http1.grammar import FIELD_LIMIT as _FIELD_LIMIT
from gateway.http1.grammar import IS_TOKEN as _IS_TOKEN
from gateway.http1.grammar import LINE_LIMIT as _LINE_LIMIT

ctypedef const unsigned char *Text

cdef enum:
    TAB = 9
    LF = 10
    CR = 13
    SPACE = 0x20
    DOT = 0x2E
    SLASH = 0x2F
    COLON = 0x3A
    SEMICOLON = 0x3B
    QUESTION_MARK = 0x3F
    DELETE = 0x7F
    LONGEST_METHOD = 32
    LINE_LIMIT = 8 * 1024
    FIELD_LIMIT = 100
    VERSION = 11  # bytes of " HTTP/1.1\r\n"

cdef bytes TOKEN = _IS_TOKEN
cdef tuple PLACES = tuple(range(LINE_LIMIT + 1))  # to make a number anew takes three times as long

if LINE_LIMIT != _LINE_LIMIT or FIELD_LIMIT != _FIELD_LIMIT:
    raise ImportError("the compiled scans have other limits than the grammar")


cdef inline Text table(bytes of) except NULL:
    """One byte for each that there is."""
    if len(of) != 256:
        raise ValueError("a table has 256 bytes")
    return <Text> PyBytes_AS_STRING(of)


def request_line(bytes data not None):
    cdef Text text = <Text> PyBytes_AS_STRING(data)
    cdef Text of_method = table(TOKEN)
    cdef Py_ssize_t size = min(len(data), LINE_LIMIT) - VERSION  # where a target ends at the latest
    cdef Py_ssize_t at = 0, method
    while at < size and of_method[text[at]]:
        at += 1
    method = at
    if method == 0 or method > LONGEST_METHOD or at >= size or text[at] != SPACE:
        return None
    at += 1
    while at < size and text[at] > SPACE and text[at] != DELETE:
        at += 1
    if at == method + 1 or at > size:
        return None
    if memcmp(text + at, b" HTTP/1.1\r\n", VERSION) and memcmp(text + at, b" HTTP/1.0\r\n", VERSION):
        return None
    return method, at


def field_lines(bytes data not None, Py_ssize_t start):
    """Names are taken as they stand, up to their colon: who knows them holds them to the grammar."""
    cdef Text text = <Text> PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = min(len(data), LINE_LIMIT) - 1
    cdef Py_ssize_t at = start, colon, end, used = 0, index
    cdef const void *found
    cdef unsigned char byte, wrong = 0
    cdef unsigned char names[LINE_LIMIT]
    cdef list begins = [start]
    if start < 0:
        raise ValueError("nothing stands before the beginning")
    while at < size and not (text[at] == CR and text[at + 1] == LF):
        found = memchr(text + at, COLON, size - at)
        if found == NULL:
            return None
        colon = <Text> found - text + 1
        found = memchr(text + colon, CR, size - colon)
        if found == NULL or len(begins) > FIELD_LIMIT:
            return None
        end = <Text> found - text
        if text[end + 1] != LF or memchr(text + colon, LF, end - colon) != NULL:
            return None
        memcpy(names + used, text + at, colon - at)
        used += colon - at
        at = end + 2
        begins.append(PLACES[at])
    if at >= size:
        return None
    for index in range(start, at):  # all lines at once and without a way out, so that many are looked at in one step
        byte = text[index]
        wrong |= ((byte < SPACE) & (byte != TAB) & (byte != CR) & (byte != LF)) | (byte == DELETE)
    if wrong:
        return None
    return PyBytes_FromStringAndSize(<const char *> names, used), begins


def consists_of(bytes data not None, bytes allowed not None):
    cdef Text text = <Text> PyBytes_AS_STRING(data)
    cdef Text in_table = table(allowed)
    cdef Py_ssize_t index
    for index in range(len(data)):
        if not in_table[text[index]]:
            return False
    return True


def plain_path(bytes target not None, bytes of_segment not None, bytes of_query not None):
    """`of_segment` and `of_query` say which bytes those may be of."""
    cdef Text text = <Text> PyBytes_AS_STRING(target)
    cdef Text in_segment = table(of_segment)
    cdef Text in_query = table(of_query)
    cdef Py_ssize_t size = len(target), at = 0, end
    cdef bint begins = False  # whether a segment does, here
    if size == 0 or text[0] != SLASH:
        return 0
    while at < size and text[at] != QUESTION_MARK:
        if text[at] == SLASH:
            if begins:
                return 0
            begins = True
        elif not in_segment[text[at]] or (begins and text[at] == DOT):
            return 0
        else:
            begins = False
        at += 1
    end = at
    while at < size:
        if not in_query[text[at]]:
            return 0
        at += 1
    return end


cdef Py_ssize_t find(Text text, Py_ssize_t at, Py_ssize_t size, Text mark, Py_ssize_t length) noexcept:
    """Where `mark` stands first from `at` on, or -1."""
    cdef const void *found
    while at + length <= size:
        found = memchr(text + at, mark[0], size - length - at + 1)
        if found == NULL:
            return -1
        at = <Text> found - text
        if memcmp(text + at, mark, length) == 0:
            return at
        at += 1
    return -1


def pairs_with(bytes field not None, bytes mark not None):
    cdef Text text = <Text> PyBytes_AS_STRING(field)
    cdef Text sought = <Text> PyBytes_AS_STRING(mark)
    cdef Py_ssize_t size = len(field), length = len(mark), end = 0, start, at
    cdef const void *found
    cdef list pairs = []
    if length == 0:
        raise ValueError("everything holds an empty mark")
    at = find(text, 0, size, sought, length)
    while at >= 0:
        start = at
        while start > end and text[start - 1] != SEMICOLON:
            start -= 1
        found = memchr(text + at, SEMICOLON, size - at)
        end = size if found == NULL else <Text> found - text
        pairs.append((start, end))
        at = find(text, end, size, sought, length)
    return pairs
