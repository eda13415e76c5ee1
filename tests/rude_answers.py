"""What a hostile host answers: redirects out of bounds, bodies over the limit, and what is no whole answer at all."""

from tests.rude_host import reply

LOCATIONS = r"""
http://127.0.0.1/ http://127.0.0.1:1/ http://localhost/ http://[::1]/ http://169.254.169.254/latest/
//10.0.0.1/ //127.0.0.1:22/ http://2130706433/ http://0x7f.1/ file:///etc/passwd ftp://images.example.com/
gopher://127.0.0.1:6379/_x data:image/png;base64,AAAA javascript:alert(1) http://user:pw@images.example.com/
http://@images.example.com/ http:/x http:x http:///x ///x ws://images.example.com/ unix:/var/run/docker.sock
http://private.example.com/ \\10.0.0.1\x /\10.0.0.1 http:\\10.0.0.1\ HTTP://127.1/
http://images.example.com:22/ http://[::ffff:7f00:1]/ http://[64:ff9b::a9fe:a9fe]/ //user@images.example.com/
//[ http://[
""".split()  # noqa: SIM905  - a block reads better
OVER_4999_BYTES = [
    reply(b"x" * 5000),
    reply(Content_Length="5000"),
    reply(Content_Length=str(10**18)),
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000,
]
BROKEN_ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nshort",
    b"HTTP/1.1 999999 OK\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"+OK redis\r\n",
    b"",
    b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    reply(b""),
    *(
        reply(b"x", f"{status} Words")
        for status in (201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 418, 429, 500, 503)
    ),
]
ENCODINGS = ["gzip", "br", "zstd", "deflate", "GZIP", "x-gzip", "identity, gzip", "compress", "*"]
