/* What each message costs most, in C: reading plain frames, and the calls of a socket.
 *
 * All of it is in Python, too (framing.py, engines/sockets.py), for where this isn't compiled. The
 * same tests cover both.
 *
 * Calls that don't wait keep the interpreter's lock. Who gives it up for a few microseconds waits
 * for up to five milliseconds to get it back from a thread that computes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#ifndef MSG_MORE
#define MSG_MORE 0
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* From here on a copy takes longer than giving up the lock may cost. */
#define LARGE (64 * 1024)

/* As sockets.WAIT_SIZE. */
#define WAIT_SIZE 4096

/* RFC 6455 5.2: FIN with an opcode, then MASK with a length. */
enum { TEXT = 0x81, BINARY = 0x82, MASKED = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };

/* Whoever holds the lock of the interpreter may use it. */
static char buffer[LARGE];

/* Apply a mask (RFC 6455 5.3); says whether all that comes out is ASCII. */
static int unmask(unsigned char *restrict out, const unsigned char *restrict in, size_t size,
    const unsigned char *mask)
{
    uint32_t half;
    uint64_t key, word, seen = 0;
    unsigned char rest = 0;
    size_t i = 0;
    memcpy(&half, mask, 4);
    key = (uint64_t)half << 32 | half;
    for (; size - i >= 8; i += 8) {
        memcpy(&word, in + i, 8);
        word ^= key;
        seen |= word;
        memcpy(out + i, &word, 8);
    }
    for (; i < size; i++)
        rest |= out[i] = in[i] ^ mask[i & 3];
    return !((seen & 0x8080808080808080u) | (rest & 0x80));
}

static PyObject *text_of(const unsigned char *payload, size_t size, const unsigned char *mask)
{
    PyObject *text = PyUnicode_New(size, 127), *decoded;
    if (!text || unmask(PyUnicode_1BYTE_DATA(text), payload, size, mask))
        return text;
    /* Nobody has seen it yet, so it may hold what isn't ASCII for a moment. */
    decoded = PyUnicode_DecodeUTF8((const char *)PyUnicode_1BYTE_DATA(text), size, NULL);
    Py_DECREF(text);
    return decoded;
}

static PyObject *bytes_of(const unsigned char *payload, size_t size, const unsigned char *mask)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes)
        unmask((unsigned char *)PyBytes_AS_STRING(bytes), payload, size, mask);
    return bytes;
}

/* How long the head of a frame is, mask included, and in `length` its payload. 0 if it isn't all
 * there, or not that of a plain frame. */
static size_t read_head(const unsigned char *data, size_t size, uint64_t *length)
{
    if (size < 6 || (data[0] != TEXT && data[0] != BINARY) || data[1] < MASKED)
        return 0;
    *length = data[1] - MASKED;
    if (*length < LENGTH_16)
        return 6;
    if (*length == LENGTH_16) {
        *length = data[2] << 8 | data[3];
        return size < 8 ? 0 : 8;
    }
    if (size < 14)
        return 0;
    *length = 0;
    for (int i = 2; i < 10; i++)
        *length = *length << 8 | data[i];
    return 14;
}

static PyObject *message_of(const unsigned char *frame, size_t head, size_t length)
{
    const unsigned char *payload = frame + head;
    return (frame[0] == TEXT ? text_of : bytes_of)(payload, length, payload - 4);
}

/* The limit of a message's size, None for none; says whether it is a number. */
static int take_limit(PyObject *arg, uint64_t *limit)
{
    int is_huge;
    long long value;
    *limit = UINT64_MAX;
    if (arg == Py_None)
        return 1;
    value = PyLong_AsLongLongAndOverflow(arg, &is_huge);
    if (value == -1 && PyErr_Occurred())
        return 0;
    if (!is_huge)
        *limit = value;
    return 1;
}

static PyObject *read_one(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "read_one() takes bytes and a limit");
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    size_t size = PyBytes_GET_SIZE(args[0]), head;
    uint64_t limit, length;
    if (!take_limit(args[1], &limit))
        return NULL;
    head = read_head(data, size, &length);
    if (!head || length > limit || length != size - head)
        Py_RETURN_NONE;
    return message_of(data, head, length);
}

static PyObject *read_plain(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(args[0]) || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "read_plain() takes bytes, a limit, and a list");
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    size_t size = PyBytes_GET_SIZE(args[0]), position = 0, head;
    uint64_t limit, length;
    if (!take_limit(args[1], &limit))
        return NULL;
    while ((head = read_head(data + position, size - position, &length))) {
        if (length > limit || length > size - position - head)
            break;
        PyObject *message = message_of(data + position, head, length);
        if (!message)
            return NULL;
        int failed = PyList_Append(args[2], message);
        Py_DECREF(message);
        if (failed)
            return NULL;
        position += head + length;
    }
    return PyLong_FromSize_t(position);
}

/* What a call returns that failed with this error. Whoever runs Python code, or frees something, in
 * between has to keep the error of the call: errno may be another one's by then. */
static PyObject *failed(int error)
{
    if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)
        Py_RETURN_NONE;
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *receive(PyObject *module, PyObject *arg)
{
    int fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    ssize_t size = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    return size < 0 ? failed(errno) : PyBytes_FromStringAndSize(buffer, size);
}

static PyObject *wait_and_receive(PyObject *module, PyObject *arg)
{
    char first[WAIT_SIZE];
    int fd = PyLong_AsLong(arg), error;
    ssize_t size;
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    size = recv(fd, first, sizeof first, 0);
    error = errno;
    Py_END_ALLOW_THREADS
    if (size < 0)
        return error == EINTR && PyErr_CheckSignals() ? NULL : failed(error);
    return PyBytes_FromStringAndSize(first, size);
}

static PyObject *send_now(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "send() takes a descriptor, bytes, and whether more follows");
        return NULL;
    }
    int fd = PyLong_AsLong(args[0]);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (args[2] == Py_True ? MSG_MORE : 0), error;
    Py_buffer view;
    ssize_t size;
    if (PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE))
        return NULL;
    if (view.len < LARGE) {
        size = send(fd, view.buf, view.len, flags);
        error = errno;
    } else {
        Py_BEGIN_ALLOW_THREADS
        size = send(fd, view.buf, view.len, flags);
        error = errno;
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return size < 0 ? failed(error) : PyLong_FromSsize_t(size);
}

static PyMethodDef functions[] = {
    {"read_one", (PyCFunction)(void (*)(void))read_one, METH_FASTCALL, "As framing.read_one()."},
    {"read_plain", (PyCFunction)(void (*)(void))read_plain, METH_FASTCALL,
        "As framing.read_plain()."},
    {"receive", receive, METH_O, "As engines.sockets.receive(), of a descriptor."},
    {"send", (PyCFunction)(void (*)(void))send_now, METH_FASTCALL,
        "As engines.sockets.send(), to a descriptor."},
    {"wait_and_receive", wait_and_receive, METH_O,
        "As engines.sockets.wait_and_receive(), of a descriptor."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "speedups",
    .m_doc = "What each message costs most, in C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_speedups(void)
{
    return PyModule_Create(&definition);
}
