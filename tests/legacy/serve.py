"""Runs an old server in a folder of its own: `serve.py PROGRAM PORT`.

Says its port as soon as it accepts connections. When standard input ends, the server and all of its processes are
killed and the folder is removed.
"""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
# A virtual machine on a busy machine takes its time.
PATIENCE_S = 90


def apache(folder, port):
    """httpd with CGI and basic authentication. It names itself legacy.internal, whatever it is called."""
    shutil.copytree(HERE / "apache", folder, dirs_exist_ok=True)
    (folder / "cgi-bin/legacy.cgi").chmod(0o755)
    digest = base64.b64encode(hashlib.sha1(b"open sesame").digest()).decode()
    (folder / "passwords").write_text(f"ali:{{SHA}}{digest}\n")
    modules = "mpm_event cgid alias dir mime negotiation env auth_basic authn_core authn_file authz_core authz_user".split()
    loaded = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules]
    user = ["User www-data", "Group www-data"] if os.getuid() == 0 else []
    settings = (HERE / "apache/httpd.conf").read_text().replace("FOLDER", str(folder)).replace("PORT", str(port))
    (folder / "httpd.conf").write_text("\n".join(loaded + user) + "\n" + settings)
    return ["/usr/sbin/apache2", "-DFOREGROUND", "-d", folder, "-f", folder / "httpd.conf"]


def tomcat(folder, port):
    """Tomcat without its start script, which takes longer than it does."""
    shutil.copytree(HERE / "tomcat", folder / "shop")
    (folder / "conf").mkdir()
    for name in ("server.xml", "tomcat-users.xml"):
        shutil.move(folder / "shop" / name, folder / "conf" / name)
    home = pathlib.Path("/usr/share/tomcat10")
    jars = f"{home}/bin/bootstrap.jar:{home}/bin/tomcat-juli.jar"
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-Djava.security.egd=file:/dev/urandom"]
    places = [f"-Dcatalina.home={home}", f"-Dcatalina.base={folder}", f"-Djava.io.tmpdir={folder}"]
    places += [f"-Dport={port}", "-Dorg.apache.catalina.startup.EXIT_ON_INIT_FAILURE=true"]
    return ["java", *quick, *places, "-cp", jars, "org.apache.catalina.startup.Bootstrap", "start"]


def php(folder, port):
    settings = {"session.save_path": folder, "upload_tmp_dir": folder, "display_errors": "1"}
    options = [word for name, value in settings.items() for word in ("-d", f"{name}={value}")]
    return ["php", *options, "-S", f"127.0.0.1:{port}", "-t", HERE / "php"]


def node(folder, port):
    return ["node", HERE / "node.mjs", str(port)]


def wsgi(folder, port):
    return [sys.executable, HERE / "wsgi.py", str(port)]


def nginx(folder, port):
    """A balancer that terminates TLS with `CERTIFICATE` and `KEY`, and passes clear text on to the port `BEHIND`."""
    settings = (HERE / "nginx.conf").read_text().replace("FOLDER", str(folder)).replace("PORT", str(port))
    for name in ("BEHIND", "CERTIFICATE", "KEY"):
        settings = settings.replace(name, os.environ[name])
    (folder / "nginx.conf").write_text(settings)
    return ["/usr/sbin/nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"]


PROGRAMS = {program.__name__: program for program in (apache, tomcat, php, node, wsgi, nginx)}


def wait_until_it_listens(server, port):
    deadline = time.monotonic() + PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit("the server ended" if server.poll() is not None else f"no connection within {PATIENCE_S} s")


def end(server):
    """Kills it with all of its processes: they are a group of their own."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, name)
        except ProcessLookupError:
            pass
        try:
            server.wait(3)
        except subprocess.TimeoutExpired:
            pass


def main():
    program, port = PROGRAMS[sys.argv[1]], int(sys.argv[2])
    # What ends this program ends the server first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="portcullis-legacy-", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        # Servers that give up root must be able to read it.
        folder.chmod(0o755)
        with (folder / "output").open("w") as output:
            command = [str(word) for word in program(folder, port)]
            server = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_until_it_listens(server, port)
            print(json.dumps({"port": port}), flush=True)
            sys.stdin.read()
        finally:
            end(server)
            if server.returncode not in (0, -signal.SIGTERM, 143):
                print((folder / "output").read_text(), file=sys.stderr)


main()
