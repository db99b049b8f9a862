"""The servers that bench/ compares. Each function starts one on core 0 with one worker, in its leanest configuration: keep-alive to
the upstream, no access log, the same certificate. Each returns the process and its port.
"""

import glob
import json
import os
import shutil

from lib.testbed import APACHE, AUDIENCE, CADDY, ENVOY, HAPROXY, HAPROXY_JWT, NGINX, OURS, RELAY, SERVER_CORE, UPSTREAM, VENV

ISSUER = f"https://localhost:{OURS}"


def nginx(testbed):
    # Bodies are streamed and not buffered in files: this is cheaper, and the other servers do the same.
    config = testbed.write("nginx.conf", f"""
        daemon off; worker_processes 1; pid {testbed.path('nginx.pid')}; error_log /dev/null;
        events {{ worker_connections 32768; }}
        http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
          proxy_request_buffering off; proxy_max_temp_file_size 0;
          {testbed.temporary_paths()}
          upstream legacy {{ server 127.0.0.1:{UPSTREAM}; keepalive 256; keepalive_requests 1000000000; }}
          server {{ listen 127.0.0.1:{NGINX} ssl http2 backlog=4096; ssl_certificate {testbed.crt}; ssl_certificate_key {testbed.key};
            ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m;
            location / {{ proxy_pass http://legacy; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}""")
    return testbed.run(SERVER_CORE, ["nginx", "-e", "/dev/null", "-c", config, "-p", testbed.folder], NGINX), NGINX


def haproxy(testbed):
    return _haproxy(testbed, HAPROXY, "http", f"ssl crt {testbed.pem} alpn h2,http/1.1", "")


def haproxy_jwt(testbed):
    checks = f"""
  http-request set-var(txn.bearer) http_auth_bearer
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
  http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
  http-request set-var(txn.scope) var(txn.bearer),jwt_payload_query('$.scope')
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str RS256 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}
  http-request deny deny_status 401 unless {{ date,neg,add(txn.exp) -m int gt 0 }}
  http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify("RS256","{testbed.path('public.pem')}") -m int 1 }}
  http-request deny deny_status 403 unless {{ var(txn.scope) -m sub read:data }}"""
    return _haproxy(testbed, HAPROXY_JWT, "http", f"ssl crt {testbed.pem} alpn h2,http/1.1", checks)


def tcp_relay(testbed):
    """No TLS and no HTTP: the lowest possible cost."""
    return _haproxy(testbed, RELAY, "tcp", "", "")


def _haproxy(testbed, port, mode, bind, checks):
    config = testbed.write(f"haproxy-{port}.cfg", f"""
global
  nbthread 1
  maxconn 19000
defaults
  mode {mode}
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  {'http-reuse always' if mode == 'http' else ''}
frontend f
  bind 127.0.0.1:{port} {bind}{checks}
  default_backend b
backend b
  server s 127.0.0.1:{UPSTREAM} {'pool-max-conn 256' if mode == 'http' else ''}
""")
    # HAProxy counts two descriptors for each connection, and refuses to start if it may not open them.
    return testbed.run(SERVER_CORE, ["haproxy", "-db", "-n", "9900", "-f", config], port), port


def envoy(testbed):
    return _envoy(testbed, None)


def envoy_jwt(testbed):
    return _envoy(testbed, {})


def envoy_jwt_cache(testbed):
    return _envoy(testbed, {"jwt_cache_config": {"jwt_cache_size": 5000}})


def _envoy(testbed, jwt):
    types = "type.googleapis.com/envoy.extensions"
    router = {"name": "router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}}
    filters = [router]
    if jwt is not None:
        provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": {"inline_string": json.dumps({"keys": [testbed.jwk]})}, **jwt}
        filters.insert(0, {"name": "jwt", "typed_config": {
            "@type": f"{types}.filters.http.jwt_authn.v3.JwtAuthentication", "providers": {"ours": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "ours"}}]}})
    manager = {"@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in", "codec_type": "AUTO",
               "http_filters": filters, "generate_request_id": False,
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "legacy"}}]}]}}
    tls = {"@type": f"{types}.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": {
        "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [{"certificate_chain": {"filename": testbed.crt}, "private_key": {"filename": testbed.key}}]}}
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    config = {"static_resources": {
        "listeners": [{"address": address(ENVOY), "filter_chains": [{
            "filters": [{"name": "http", "typed_config": manager}], "transport_socket": {"name": "tls", "typed_config": tls}}]}],
        "clusters": [{"name": "legacy", "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [{"max_connections": 20000, "max_requests": 20000}]},
                      "load_assignment": {"cluster_name": "legacy", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(UPSTREAM)}}]}]}}]}}
    path = testbed.write("envoy.json", json.dumps(config))
    return testbed.run(SERVER_CORE, [envoy_binary(), "-c", path, "--concurrency", "1", "--log-level", "off", "--disable-hot-restart"], ENVOY), ENVOY


def envoy_binary():
    """The binary inside the package, without its start script."""
    inside = glob.glob(os.path.join(VENV, "lib/python3*/site-packages/envoy/_bin/envoy"))
    return inside[0] if inside else shutil.which("envoy")


def caddy(testbed):
    config = testbed.write("Caddyfile", f"""
{{
  admin off
  auto_https off
  storage file_system {testbed.path('caddy')}
  log {{
    output discard
  }}
}}
https://localhost:{CADDY} {{
  bind 127.0.0.1
  tls {testbed.crt} {testbed.key}
  reverse_proxy 127.0.0.1:{UPSTREAM} {{
    transport http {{
      keepalive_idle_conns_per_host 256
      keepalive_idle_conns 256
      compression off
    }}
  }}
}}
""")
    environment = {**os.environ, "GOMAXPROCS": "1", "HOME": testbed.folder, "XDG_DATA_HOME": testbed.folder, "XDG_CONFIG_HOME": testbed.folder}
    return testbed.run(SERVER_CORE, ["caddy", "run", "--adapter", "caddyfile", "--config", config], CADDY, environment=environment), CADDY


def apache(testbed):
    """httpd with mod_auth_openidc as a resource server that verifies with a given key."""
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in (
        "mpm_event", "authn_core", "authz_core", "authz_user", "proxy", "proxy_http", "ssl", "socache_shmcb", "auth_openidc"))
    config = testbed.write("apache.conf", f"""
{modules}
ServerRoot {testbed.folder}
ServerName localhost
PidFile {testbed.path('apache.pid')}
DefaultRuntimeDir {testbed.folder}
Listen 127.0.0.1:{APACHE}
User www-data
Group www-data
ErrorLog /dev/null
LogLevel crit
ServerLimit 1
StartServers 1
ThreadsPerChild 256
MaxRequestWorkers 256
AsyncRequestWorkerFactor 64
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
OIDCOAuthVerifyCertFiles {testbed.jwk["kid"]}#{testbed.path('public.crt')}
OIDCCryptoPassphrase bench
OIDCOAuthRemoteUserClaim sub
<VirtualHost 127.0.0.1:{APACHE}>
  SSLEngine on
  SSLCertificateFile {testbed.crt}
  SSLCertificateKeyFile {testbed.key}
  ProxyPass / http://127.0.0.1:{UPSTREAM}/ keepalive=On max=256
  <Location />
    AuthType oauth20
    Require claim iss:{ISSUER}
  </Location>
</VirtualHost>
""")
    return testbed.run(SERVER_CORE, ["apache2", "-DFOREGROUND", "-f", config], APACHE), APACHE


PEERS = {
    "portcullis": lambda testbed: testbed.portcullis(),
    "portcullis, all off": lambda testbed: testbed.portcullis("bare"),
    "nginx": nginx,
    "nginx again": nginx,
    "HAProxy": haproxy,
    "HAProxy jwt_verify": haproxy_jwt,
    "HAProxy jwt_verify again": haproxy_jwt,
    "TCP relay": tcp_relay,
    "Envoy": envoy,
    "Envoy jwt_authn": envoy_jwt,
    "Envoy jwt_authn, cache": envoy_jwt_cache,
    "Caddy": caddy,
    "Apache mod_auth_openidc": apache,
}


def start(testbed, name):
    return PEERS[name](testbed)
