"""Kubernetes' own CEL functions (k8s.io/apiserver pkg/cel/library), declared for the offline evaluator.

The surprise: the evaluator knows no opaque types from Python, so an address, a network, a quantity, a format
and an optional are maps of one key that names the type. Rules cannot tell, and two of them are equal when
their values are.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal

from cel_expr_python import cel

from aegate_core.resources import names
from aegate_core.resources.quantity import is_quantity, parse_quantity

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Opaque = dict[str, object]

_IP, _CIDR, _QUANTITY, _FORMAT, _OPTIONAL = (
    "net.IP",
    "net.CIDR",
    "kubernetes.Quantity",
    "kubernetes.Format",
    "optional",
)
_LINK_LOCAL_MULTICAST = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))
_BROADCAST = ipaddress.ip_address("255.255.255.255")


def _address(text: str) -> Address:
    """Parse as netip.ParseAddr does, without zones and without IPv4 in IPv6. Raises ValueError."""
    if "%" in text:
        raise ValueError("an IP address may have no zone")
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError("an IPv4 address may not be written as IPv6")
    return address


def _interface(text: str) -> tuple[Address, int]:
    host, slash, bits = text.partition("/")
    address = _address(host)
    if not slash or not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits) or int(bits) > address.max_prefixlen:
        raise ValueError("a CIDR must be an address, / and a prefix length")
    return address, int(bits)


def _holds(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _value(opaque: Opaque, kind: str) -> object:
    if kind not in opaque:
        raise ValueError(f"no such overload: expected {kind}")
    return opaque[kind]


def _ip_of(opaque: Opaque) -> Address:
    return ipaddress.ip_address(str(_value(opaque, _IP)))


def _cidr_of(opaque: Opaque) -> tuple[Address, int]:
    return _interface(str(_value(opaque, _CIDR)))


def _network_of(opaque: Opaque) -> Network:
    return ipaddress.ip_network(str(_value(opaque, _CIDR)), strict=False)


def _quantity_of(opaque: Opaque) -> Decimal:
    return Decimal(str(_value(opaque, _QUANTITY)))


def _ip(text: str) -> Opaque:
    return {_IP: str(_address(text))}


def _cidr(text: str) -> Opaque:
    address, bits = _interface(text)
    return {_CIDR: f"{address}/{bits}"}


def _quantity(number: Decimal) -> Opaque:
    return {_QUANTITY: format(number.normalize(), "f")}


def _is_global_unicast(address: Address) -> bool:
    """As Go's netip: private addresses count as global unicast."""
    special = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    return not special and address != _BROADCAST


def _within(outer: Opaque, inner: tuple[Address, int]) -> bool:
    network, (address, bits) = _network_of(outer), inner
    return address.version == network.version and address in network and bits >= network.prefixlen


def _compare(left: Opaque, right: Opaque) -> int:
    a, b = _quantity_of(left), _quantity_of(right)
    return (a > b) - (a < b)


def _as_integer(opaque: Opaque) -> int:
    number = _quantity_of(opaque)
    if number != number.to_integral_value() or not -(2**63) <= number < 2**63:
        raise ValueError("the quantity is no 64-bit integer")
    return int(number)


def _is_integer(opaque: Opaque) -> bool:
    return _holds(lambda _: _as_integer(opaque))("")


def _sign(opaque: Opaque) -> int:
    number = _quantity_of(opaque)
    return (number > 0) - (number < 0)


def _uuid_errors(text: str) -> list[str]:
    return [] if _holds(uuid.UUID)(text) else ["does not match the UUID format"]


_FORMATS: dict[str, Callable[[str], list[str]]] = {
    "dns1123Label": names.dns1123_label,
    "dns1123Subdomain": names.dns1123_subdomain,
    "dns1035Label": names.dns1035_label,
    "qualifiedName": names.qualified_name,
    "labelValue": names.label_value,
    "uuid": _uuid_errors,
}


def _validate(format_: Opaque, text: str) -> Opaque:
    errors = _FORMATS[str(_value(format_, _FORMAT))](text)
    return optional(errors or None)


def optional(value: object) -> Opaque:
    """Return what a rule sees as an optional: of ``value``, or of nothing when it is None."""
    return {_OPTIONAL: [] if value is None else [value]}


def _optional_value(given: Opaque) -> object:
    held = _value(given, _OPTIONAL)
    if not isinstance(held, list) or not held:
        raise ValueError("optional.none() dereference")
    return held[0]


T = cel.Type
_declared = 0


def _overload(result: cel.Type, parameters: Sequence[cel.Type], impl: Callable[..., object]) -> cel.Overload:
    """One overload; its id is a number because nobody reads it."""
    global _declared
    _declared += 1
    return cel.Overload(f"kubernetes_{_declared}", result, list(parameters), impl=impl)


def _method(result: cel.Type, parameters: Sequence[cel.Type], impl: Callable[..., object]) -> cel.Overload:
    global _declared
    _declared += 1
    return cel.Overload(f"kubernetes_{_declared}", result, [T.MAP, *parameters], is_member=True, impl=impl)


def kubernetes_functions() -> list[cel.FunctionDecl]:
    """Return the declarations of all functions, for an environment."""
    return [
        cel.FunctionDecl(name, overloads) for name, overloads in [*_network_functions(), *_other_functions()]
    ]


def _network_functions() -> list[tuple[str, list[cel.Overload]]]:
    return [
        ("isIP", [_overload(T.BOOL, [T.STRING], _holds(_address))]),
        (
            "ip",
            [
                _overload(T.MAP, [T.STRING], _ip),
                _method(T.MAP, [], lambda c: _ip(str(_cidr_of(c)[0]))),
            ],
        ),
        ("ip.isCanonical", [_overload(T.BOOL, [T.STRING], lambda s: str(_address(s)) == s)]),
        ("family", [_method(T.INT, [], lambda i: _ip_of(i).version)]),
        ("isUnspecified", [_method(T.BOOL, [], lambda i: _ip_of(i).is_unspecified)]),
        ("isLoopback", [_method(T.BOOL, [], lambda i: _ip_of(i).is_loopback)]),
        (
            "isLinkLocalMulticast",
            [_method(T.BOOL, [], lambda i: any(_ip_of(i) in network for network in _LINK_LOCAL_MULTICAST))],
        ),
        ("isLinkLocalUnicast", [_method(T.BOOL, [], lambda i: _ip_of(i).is_link_local)]),
        ("isGlobalUnicast", [_method(T.BOOL, [], lambda i: _is_global_unicast(_ip_of(i)))]),
        ("isCIDR", [_overload(T.BOOL, [T.STRING], _holds(_interface))]),
        ("cidr", [_overload(T.MAP, [T.STRING], _cidr)]),
        ("masked", [_method(T.MAP, [], lambda c: _cidr(str(_network_of(c))))]),
        ("prefixLength", [_method(T.INT, [], lambda c: _cidr_of(c)[1])]),
        (
            "containsIP",
            [
                _method(T.BOOL, [T.STRING], lambda c, s: _within(c, (_address(s), 128))),
                _method(T.BOOL, [T.MAP], lambda c, i: _within(c, (_ip_of(i), 128))),
            ],
        ),
        (
            "containsCIDR",
            [
                _method(T.BOOL, [T.STRING], lambda c, s: _within(c, _interface(s))),
                _method(T.BOOL, [T.MAP], lambda c, other: _within(c, _cidr_of(other))),
            ],
        ),
    ]


def _other_functions() -> list[tuple[str, list[cel.Overload]]]:
    formats = [(f"format.{name}", [_overload(T.MAP, [], _format(name))]) for name in _FORMATS]
    return [
        *formats,
        ("validate", [_method(T.MAP, [T.STRING], _validate)]),
        ("hasValue", [_method(T.BOOL, [], lambda o: bool(_value(o, _OPTIONAL)))]),
        ("value", [_method(T.DYN, [], _optional_value)]),
        ("isQuantity", [_overload(T.BOOL, [T.STRING], is_quantity)]),
        ("quantity", [_overload(T.MAP, [T.STRING], lambda s: _quantity(parse_quantity(s)))]),
        ("sign", [_method(T.INT, [], _sign)]),
        ("isInteger", [_method(T.BOOL, [], _is_integer)]),
        ("asInteger", [_method(T.INT, [], _as_integer)]),
        ("asApproximateFloat", [_method(T.DOUBLE, [], lambda q: float(_quantity_of(q)))]),
        ("isGreaterThan", [_method(T.BOOL, [T.MAP], lambda a, b: _compare(a, b) > 0)]),
        ("isLessThan", [_method(T.BOOL, [T.MAP], lambda a, b: _compare(a, b) < 0)]),
        ("compareTo", [_method(T.INT, [T.MAP], _compare)]),
        ("add", [_method(T.MAP, [T.MAP], lambda a, b: _quantity(_quantity_of(a) + _quantity_of(b)))]),
        ("sub", [_method(T.MAP, [T.MAP], lambda a, b: _quantity(_quantity_of(a) - _quantity_of(b)))]),
    ]


def _format(name: str) -> Callable[[], Opaque]:
    return lambda: {_FORMAT: name}
