"""Which addresses belong to the public Internet, and which to machines that only their own network should reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

#: Where a cloud answers its own machines, though the address looks public: Azure's.
_METADATA = IPv4Network("168.63.129.16/32")
#: NAT64 (RFC 6052): the last four bytes are an address of IPv4.
_NAT64 = IPv6Network("64:ff9b::/96")


class NotPublic(OSError):
    """The host has addresses of private networks only, and must not."""


def is_public(address: str) -> bool:
    """Whether it is one of the public Internet; what carries IPv4 in IPv6 is judged by what it carries."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if (carried := _carried(ip)) is not None:
            ip = carried
        elif ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip in _METADATA)


def _carried(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
