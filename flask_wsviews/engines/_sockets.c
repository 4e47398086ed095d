/* engines/sockets.py's recv() and send() in C. The same tests cover both.
 *
 * Calls that don't wait keep the interpreter's lock: a thread that gives it up for a few
 * microseconds may wait five milliseconds to get it back from a thread that computes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/socket.h>

#ifndef MSG_MORE
#define MSG_MORE 0
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* Copying this many bytes takes longer than giving up the lock may cost. */
#define LARGE (64 * 1024)

/* The same as sockets.WAIT_SIZE. */
#define WAIT_SIZE 4096

/* Shared by all threads: use it only with the interpreter's lock. */
static char buffer[LARGE];

/* Return the result of a call that failed with this error: None if it would have waited. The caller
 * saves errno before it runs Python code or frees anything, which may change it. */
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
    {"receive", receive, METH_O, "Like sockets.receive(), from a descriptor."},
    {"send", (PyCFunction)(void (*)(void))send_now, METH_FASTCALL,
        "Like sockets.send(), to a descriptor."},
    {"wait_and_receive", wait_and_receive, METH_O,
        "Like sockets.wait_and_receive(), from a descriptor."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_sockets",
    .m_doc = "Receives from sockets and sends to them.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__sockets(void)
{
    return PyModule_Create(&definition);
}
