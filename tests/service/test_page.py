"""The link that is printed leads somewhere, by a name that is answered and a certificate bears."""

from __future__ import annotations

import pytest

from agent.config import Api
from agent.service.page import page_of


@pytest.mark.parametrize(
    ("served", "hosts", "tls", "url", "exposed"),
    [
        ("", (), False, "", False),
        ("127.0.0.1:9178", (), False, "http://127.0.0.1:9178/", False),
        ("127.0.0.1:9178", ("rack.lab",), False, "http://127.0.0.1:9178/", False),
        ("127.0.0.1:9178", ("rack.lab",), True, "https://rack.lab:9178/", False),
        ("[::1]:9178", (), True, "https://[::1]:9178/", False),
        ("0.0.0.0:9178", (), False, "http://127.0.0.1:9178/", True),
        ("0.0.0.0:9178", ("rack.lab", "x"), False, "http://rack.lab:9178/", True),
        ("[::]:9178", (), False, "http://[::1]:9178/", True),
        ("[::]:9178", (), True, "https://[::1]:9178/", False),
        ("[fe80::1%eth0]:9178", (), False, "http://[fe80::1%eth0]:9178/", True),
        ("10.1.2.3:443", (), True, "https://10.1.2.3:443/", False),
        ("10.1.2.3:80", ("rack.lab",), False, "http://10.1.2.3:80/", True),
    ],
)
def test_where_the_page_is(
    served: str, hosts: tuple[str, ...], tls: bool, url: str, exposed: bool
) -> None:
    api = Api(hosts=hosts, cert="/c.pem" if tls else None)
    assert page_of(api, served) == (url, exposed)
