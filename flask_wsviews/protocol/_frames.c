/* plain_frames.read_plain() in C. The same tests cover both. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* RFC 6455 5.2: FIN with an opcode, then MASK with a length. */
enum { TEXT = 0x81, BINARY = 0x82, MASKED = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };

/* Apply a mask (RFC 6455 5.3); return whether the result is ASCII. */
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
    /* Nothing else refers to it yet, so it may hold other bytes than ASCII for a moment. */
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

/* Return the size of a plain frame's header, mask included, and in `length` that of its payload;
 * 0 if the header is incomplete or that of another frame. */
static size_t read_header(const unsigned char *data, size_t size, uint64_t *length)
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

static PyObject *message_of(const unsigned char *frame, size_t header, size_t length)
{
    const unsigned char *payload = frame + header;
    return (frame[0] == TEXT ? text_of : bytes_of)(payload, length, payload - 4);
}

/* Read the maximum size of a message, None for no limit; return whether it is a number. */
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

static PyObject *read_plain(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(args[0]) || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "read_plain() takes bytes, a limit, and a list");
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    size_t size = PyBytes_GET_SIZE(args[0]), position = 0, header;
    uint64_t limit, length;
    if (!take_limit(args[1], &limit))
        return NULL;
    while ((header = read_header(data + position, size - position, &length))) {
        if (length > limit || length > size - position - header)
            break;
        PyObject *message = message_of(data + position, header, length);
        if (!message)
            return NULL;
        int failed = PyList_Append(args[2], message);
        Py_DECREF(message);
        if (failed)
            return NULL;
        position += header + length;
    }
    return PyLong_FromSize_t(position);
}

static PyMethodDef functions[] = {
    {"read_plain", (PyCFunction)(void (*)(void))read_plain, METH_FASTCALL,
        "Like plain_frames.read_plain()."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_frames",
    .m_doc = "Reads plain frames.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__frames(void)
{
    return PyModule_Create(&definition);
}
