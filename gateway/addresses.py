"""The addresses that are nobody's public server, as data, and the question whether one is among them."""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address

# IANA's special-purpose registries, multicast, and what clouds keep behind public-looking addresses. Every IPv6 form
# that carries an IPv4 address is refused whole, a public one inside included: no honest name resolves to such a form,
# and a guard that decodes them is one forgotten prefix away from a hole.
TABLE = {
    "this network": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "cloud metadata": ("169.254.169.254/32", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "shared by a carrier": ("100.64.0.0/10",),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "protocol assignment": ("192.0.0.0/24", "2001::/23"),
    "documentation": ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    "benchmarking": ("198.18.0.0/15", "2001:2::/48"),
    "relay or sink": ("192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24", "2620:4f:8000::/48"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": ("240.0.0.0/4",),
    "discarded": ("100::/64", "100:0:0:1::/64"),
    "segment routing": ("5f00::/16",),
    "IPv4-compatible": ("::/96",),
    "IPv4-mapped": ("::ffff:0:0/96",),
    "IPv4-translated": ("::ffff:0:0:0/96",),
    "NAT64": ("64:ff9b::/96", "64:ff9b:1::/48"),
    "Teredo": ("2001::/32",),
    "6to4": ("2002::/16",),
}

# ISATAP marks the interface half of any address: 0000:5efe or 0200:5efe, then an IPv4 address (RFC 5214).
ISATAP_MASK, ISATAP = 0xFCFF_FFFF, 0x0000_5EFE


def _merged(version: int) -> tuple[list[int], list[int]]:
    """Give the starts and ends of the table's ranges, sorted and without overlap, for a binary search."""
    networks = (ip_network(text) for texts in TABLE.values() for text in texts)
    spans = sorted((int(net[0]), int(net[-1])) for net in networks if net.version == version)
    starts, ends = [spans[0][0]], [spans[0][1]]
    for start, end in spans[1:]:
        if start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends


RANGES = {4: _merged(4), 6: _merged(6)}


def is_special(address: Address) -> bool:
    """Say whether *address* is none that a public server can have."""
    value = int(address)
    starts, ends = RANGES[address.version]
    found = bisect_right(starts, value) - 1
    if found >= 0 and value <= ends[found]:
        return True
    return address.version == 6 and (value >> 32) & ISATAP_MASK == ISATAP


def describe(address: Address) -> str:
    """Name the kind of a special address, for the log."""
    for kind, texts in TABLE.items():
        if any(address in ip_network(text) for text in texts):
            return kind
    return "ISATAP" if is_special(address) else "public"


def is_own(address: Address) -> bool:
    """Say whether this machine itself has *address*, by asking the kernel for the way there; nothing is sent.

    The way to one's own address starts at that very address, which is true of no other.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False


def parse_addresses(texts: Iterable[str]) -> tuple[Address, ...]:
    """Read the addresses of a DNS answer, each once, in the order given."""
    return tuple(dict.fromkeys(ip_address(text) for text in texts))
