"""nginx with ``proxy_cache`` and slices: what caches https where nobody asks for tokens."""

from __future__ import annotations

from collections.abc import Mapping

from boathouse.errors import HostError
from boathouse.plan.model import File, Probe, ProbeKind, Unit
from boathouse.run import programs as installed
from boathouse.testing.scratch import free_port
from boathouse.testing.units import Units

_ADDRESS = "127.0.0.1"
_SETTINGS = """\
daemon off;
pid {run}/pid;
error_log stderr warn;
worker_processes auto;
events {{}}
http {{
  access_log off;
  client_body_temp_path {run}/body;
  proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi;
  scgi_temp_path {run}/scgi;
  proxy_cache_path {data} keys_zone=lake:10m max_size=12g inactive=1d use_temp_path=off;
  proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {ca};
  sendfile on;
{upstreams}
  server {{
    listen {address}:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location = /health {{ return 200 "ok"; }}
{locations}
  }}
}}
"""
_UPSTREAM = """\
  upstream {name} {{ server {netloc}; keepalive 16; }}
"""
# Slices are asked for one after the other: small ones would show the distance alone.
_LOCATION = """\
    location /{name}/ {{
      slice 4m;
      proxy_cache lake;
      proxy_cache_key $uri$slice_range;
      proxy_cache_valid 200 206 1d;
      proxy_cache_lock on;
      proxy_set_header Range $slice_range;
      proxy_set_header Connection "";
      proxy_http_version 1.1;
      proxy_ssl_name {host};
      proxy_pass https://{name}/;
    }}
"""


def nginx_unit(units: Units, origins: Mapping[str, str]) -> Unit:
    """nginx as a further unit.

    Args:
        units: beside which it runs.
        origins: ``host:port`` by the name that stands first in a path.

    Raises:
        HostError: there is none.
    """
    program = installed.home() / "nginx" / "bin" / "nginx"
    if not program.exists():
        raise HostError("nginx is missing, which caches are measured beside", remedy="install/run --tests")
    certificate, key = units.authority.certificate("nginx", _ADDRESS)
    run, data, port = units.context.run("nginx"), units.context.data("nginx"), free_port(_ADDRESS)
    text = _SETTINGS.format(
        run=run,
        data=data,
        ca=units.context.layout.ca,
        address=_ADDRESS,
        port=port,
        certificate=certificate,
        key=key,
        upstreams="".join(_UPSTREAM.format(name=name, netloc=netloc) for name, netloc in origins.items()),
        locations="".join(
            _LOCATION.format(name=name, host=netloc.partition(":")[0]) for name, netloc in origins.items()
        ),
    )
    settings = File(units.context.config("nginx", "nginx.conf"), text)
    url = f"https://{_ADDRESS}:{port}"
    return Unit(
        name="nginx",
        title="nginx, a cache to compare with",
        command=(str(program), "-e", "stderr", "-c", str(settings.path)),
        probe=Probe(ProbeKind.https, target=f"{url}/health"),
        directories=(run, data),
        files=(settings,),
        url=url,
    )
